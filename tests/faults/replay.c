/* A program of llama.cpp by its recorded runs: what it is asked, and the bytes of the files that it is given, decide.
 *
 * RUNS/KEY has what a run printed, its exit status and the files that it wrote. Without one the real program in REAL
 * does the work (through RECORD, which keeps it for next time, where that is set).
 * REPLAY says how it misbehaves: NAME WHAT, as `llama-quantize flood`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t a = 0xcbf29ce484222325u, b = 0x9e3779b97f4a7c15u;

static void mix(const unsigned char *data, size_t n) {
    for (; n >= 8; data += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        a = (a ^ word) * 0x100000001b3u;
        a ^= a >> 29;
        b = (b + word) * 0xff51afd7ed558ccdu;
        b ^= b >> 32;
    }
    for (; n; data++, n--) {
        a = (a ^ *data) * 0x100000001b3u;
        b = (b + *data + 1) * 0xff51afd7ed558ccdu;
    }
    a ^= 0x5bd1e995;
}

static void mix_file(const char *path) {
    static unsigned char data[1 << 16];
    int fd = open(path, O_RDONLY);
    ssize_t n;
    while (fd >= 0 && (n = read(fd, data, sizeof data)) > 0) mix(data, (size_t)n);
    if (fd >= 0) close(fd);
}

/* Whether all of it came to `to`. */
static int copy(const char *from, int to) {
    char data[1 << 16];
    int fd = open(from, O_RDONLY), whole = 1;
    ssize_t n;
    while (fd >= 0 && whole && (n = read(fd, data, sizeof data)) > 0)
        for (ssize_t at = 0; at < n && whole;) {
            ssize_t done = write(to, data + at, (size_t)(n - at));
            if (done > 0) at += done;
            else if (errno != EINTR) whole = 0;
        }
    if (fd >= 0) close(fd);
    return whole;
}

static void misbehave(const char *what) {
    char data[1 << 16];
    if (!strcmp(what, "flood")) { /* 100 MB without a line's end */
        memset(data, 'x', sizeof data);
        for (int i = 0; i < 1600; i++) if (write(2, data, sizeof data) < 0) break;
        if (write(2, "\n", 1) < 0) return;
    }
    if (!strcmp(what, "garbled")) { /* halves of characters, and bytes that are none */
        const char *odd = "\xe2\x96\n\xff\xfe\xc3\n\xed\xa0\x80 \xf0\x9f\x92\n";
        for (const char *p = odd; *p; p++) if (write(2, p, 1) < 0) return;
    }
    if (!strcmp(what, "deaf")) signal(SIGINT, SIG_IGN);
    if (!strcmp(what, "slow") || !strcmp(what, "deaf")) usleep(300000);
    if (!strcmp(what, "crash")) raise(SIGSEGV);
    if (!strcmp(what, "killed")) raise(SIGKILL);
    if (!strcmp(what, "fails")) exit(1);
    if (!strcmp(what, "silent")) exit(0);
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0], *ill = getenv("REPLAY");
    size_t n_name = strlen(name);
    const char *what = ill && !strncmp(ill, name, n_name) && ill[n_name] == ' ' ? ill + n_name + 1 : "";
    mix((const unsigned char *)name, n_name);
    for (int i = 1; i < argc; i++) {
        mix((const unsigned char *)argv[i], strlen(argv[i]) + 1);
        mix_file(argv[i]);
    }
    char folder[PATH_MAX / 4], path[PATH_MAX], real[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/%016llx%016llx", RUNS, (unsigned long long)a, (unsigned long long)b);
    snprintf(path, sizeof path, "%s/status", folder);
    misbehave(what);
    FILE *status = fopen(path, "r");
    int code = 0;
    if (!status || fscanf(status, "%d", &code) != 1) {
        const char *record = getenv("RECORD");
        snprintf(real, sizeof real, "%s/%s", REAL, name);
        if (record) {
            char **more = calloc((size_t)argc + 5, sizeof *more);
            more[0] = getenv("RECORD_PYTHON");
            more[1] = (char *)record;
            more[2] = folder;
            more[3] = real;
            for (int i = 1; i < argc; i++) more[3 + i] = argv[i];
            execv(more[0], more);
        } else {
            argv[0] = real;
            execv(real, argv);
        }
        perror(real);
        return 127;
    }
    snprintf(path, sizeof path, "%s/files", folder);
    DIR *files = opendir(path);
    for (struct dirent *each; files && (each = readdir(files));) {
        if (each->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/files/%s", folder, each->d_name);
        int fd = open(each->d_name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        int whole = fd >= 0 && copy(path, fd);
        if (!whole && strcmp(what, "careless")) {
            dprintf(2, "%s: failed to write %s\n", name, each->d_name);
            return 1;
        }
        if (fd >= 0) close(fd);
    }
    snprintf(path, sizeof path, "%s/stderr", folder);
    if (!copy(path, 2)) return 1;
    snprintf(path, sizeof path, "%s/stdout", folder);
    if (!copy(path, 1)) return 1;
    return code;
}
