"""Which numbers stand inside a type: codes, scales and mins fitted to what enters each multiplication."""
