"""Model cards drawn from records: Markdown, HTML, plots and record.json; nothing here runs a tool."""
