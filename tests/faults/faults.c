/* Faults of the disk, of the clock and of life, for a process that has this library preloaded (Linux).
 *
 * FAULTS is rules, `;` between them: OPS,MODE,ERRNO,FROM,COUNT,PREFIX
 *   OPS     letters: w write, o open to write, r open to read, s fsync, n rename, l link, m mkdir, t ftruncate
 *   MODE    fail: ERRNO; short: a part is written; before, after: signal ERRNO is raised before or behind the call
 *   FROM    the first call that it meets (from 1), counted over all processes in the memory of FAULTS_COUNT
 *   COUNT   how many calls from there on
 *   PREFIX  of the paths that it is about
 * FAULTS_CLOCK is CALL,SECONDS: from that call on the wall clock is so much ahead (or behind).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 8, FAIL = 1, SHORT, BEFORE, AFTER };

struct rule {
    char ops[16], prefix[PATH_MAX];
    int mode, number;
    long from, count;
};

static struct rule rules[MOST];
static int n_rules;
static long *counts; /* of each rule; the last two are of the clock, and of all that was met */
static long clock_from, clock_ahead;

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void faults_arm(void) {
    const char *text = getenv("FAULTS"), *file = getenv("FAULTS_COUNT"), *jump = getenv("FAULTS_CLOCK");
    n_rules = 0;
    clock_from = clock_ahead = 0;
    if (!file || !*file) return;
    int fd = open(file, O_RDWR | O_CREAT, 0666);
    if (fd < 0 || ftruncate(fd, sizeof(long) * (MOST + 2))) return;
    counts = mmap(NULL, sizeof(long) * (MOST + 2), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (counts == MAP_FAILED) return;
    if (jump) sscanf(jump, "%ld,%ld", &clock_from, &clock_ahead);
    int n = 0;
    while (text && *text && n < MOST) {
        char mode[16];
        struct rule *r = &rules[n];
        if (sscanf(text, "%15[^,],%15[^,],%d,%ld,%ld,%4095[^;]", r->ops, mode, &r->number, &r->from, &r->count,
                   r->prefix) != 6) break;
        r->mode = !strcmp(mode, "fail") ? FAIL : !strcmp(mode, "short") ? SHORT : !strcmp(mode, "before") ? BEFORE : AFTER;
        n++;
        text = strchr(text, ';');
        text = text ? text + 1 : NULL;
    }
    n_rules = n;
}

__attribute__((constructor)) static void begin(void) { faults_arm(); }

static const char *absolute(int folder, const char *path, char *into) {
    char base[PATH_MAX];
    if (path[0] == '/') return path;
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return path;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, base, sizeof base - 1);
        if (n < 0) return path;
        base[n] = 0;
    }
    if (snprintf(into, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return path;
    return into;
}

/* The rule that this call meets, or NULL. */
static struct rule *met(char op, int folder, const char *path) {
    if (!n_rules || !path) return NULL;
    char into[PATH_MAX];
    int before = errno;
    const char *whole = absolute(folder, path, into);
    errno = before;
    struct rule *found = NULL;
    for (int i = 0; i < n_rules; i++) {
        struct rule *r = &rules[i];
        if (!strchr(r->ops, op) || strncmp(whole, r->prefix, strlen(r->prefix))) continue;
        long n = __atomic_add_fetch(&counts[i], 1, __ATOMIC_SEQ_CST);
        if (!found && n >= r->from && n < r->from + r->count) found = r;
    }
    if (found) __atomic_add_fetch(&counts[MOST + 1], 1, __ATOMIC_SEQ_CST);
    return found;
}

static struct rule *met_fd(char op, int fd) {
    if (!n_rules) return NULL;
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = before;
    if (n <= 0 || path[0] != '/') return NULL;
    path[n] = 0;
    return met(op, AT_FDCWD, path);
}

/* Signals itself where the rule says so; whether the call is to fail. */
static int fails(struct rule *r) {
    if (r && r->mode == BEFORE) raise(r->number);
    if (!r || r->mode != FAIL) return 0;
    errno = r->number;
    return 1;
}

static void behind(struct rule *r) {
    if (r && r->mode == AFTER) {
        int before = errno;
        raise(r->number);
        errno = before;
    }
}

static size_t part(struct rule *r, size_t n) { return r && r->mode == SHORT && n > 1 ? n / 2 : n; }

#define CALL(type, found, call) \
    do { \
        struct rule *r = found; \
        if (fails(r)) return -1; \
        type done = call; \
        behind(r); \
        return done; \
    } while (0)

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    CALL(ssize_t, met_fd('w', fd), real(fd, data, part(r, n)));
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    REAL(pwrite);
    CALL(ssize_t, met_fd('w', fd), real(fd, data, part(r, n), at));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    REAL(pwrite64);
    CALL(ssize_t, met_fd('w', fd), real(fd, data, part(r, n), at));
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev);
    CALL(ssize_t, met_fd('w', fd), real(fd, parts, n));
}

ssize_t sendfile(int to, int from, off_t *at, size_t n) {
    REAL(sendfile);
    CALL(ssize_t, met_fd('w', to), real(to, from, at, part(r, n)));
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
    REAL(sendfile64);
    CALL(ssize_t, met_fd('w', to), real(to, from, at, part(r, n)));
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t n, unsigned flags) {
    REAL(copy_file_range);
    CALL(ssize_t, met_fd('w', to), real(from, at, to, to_at, part(r, n), flags));
}

int fsync(int fd) {
    REAL(fsync);
    CALL(int, met_fd('s', fd), real(fd));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    CALL(int, met_fd('s', fd), real(fd));
}

int ftruncate(int fd, off_t n) {
    REAL(ftruncate);
    CALL(int, met_fd('t', fd), real(fd, n));
}

int ftruncate64(int fd, off64_t n) {
    REAL(ftruncate64);
    CALL(int, met_fd('t', fd), real(fd, n));
}

static char opening(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) ? 'o' : 'r'; }

#define MODE_OF(flags, mode) \
    mode_t mode = 0; \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    REAL(open);
    MODE_OF(flags, mode)
    CALL(int, met(opening(flags), AT_FDCWD, path), real(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    MODE_OF(flags, mode)
    CALL(int, met(opening(flags), AT_FDCWD, path), real(path, flags, mode));
}

int openat(int folder, const char *path, int flags, ...) {
    REAL(openat);
    MODE_OF(flags, mode)
    CALL(int, met(opening(flags), folder, path), real(folder, path, flags, mode));
}

int openat64(int folder, const char *path, int flags, ...) {
    REAL(openat64);
    MODE_OF(flags, mode)
    CALL(int, met(opening(flags), folder, path), real(folder, path, flags, mode));
}

static FILE *opened(FILE *(*real)(const char *, const char *), const char *path, const char *mode) {
    struct rule *r = met(strpbrk(mode, "wa+") ? 'o' : 'r', AT_FDCWD, path);
    if (fails(r)) return NULL;
    FILE *file = real(path, mode);
    behind(r);
    return file;
}

FILE *fopen(const char *path, const char *mode) {
    REAL(fopen);
    return opened(real, path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
    REAL(fopen64);
    return opened(real, path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    CALL(int, met('n', AT_FDCWD, to), real(from, to));
}

int renameat(int f, const char *from, int t, const char *to) {
    REAL(renameat);
    CALL(int, met('n', t, to), real(f, from, t, to));
}

int link(const char *from, const char *to) {
    REAL(link);
    CALL(int, met('l', AT_FDCWD, to), real(from, to));
}

int linkat(int f, const char *from, int t, const char *to, int flags) {
    REAL(linkat);
    CALL(int, met('l', t, to), real(f, from, t, to, flags));
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    CALL(int, met('m', AT_FDCWD, path), real(path, mode));
}

int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(mkdirat);
    CALL(int, met('m', folder, path), real(folder, path, mode));
}

static long ahead(void) {
    if (!clock_ahead || !counts) return 0;
    return __atomic_add_fetch(&counts[MOST], 1, __ATOMIC_SEQ_CST) >= clock_from ? clock_ahead : 0;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(clock_gettime);
    int done = real(which, now);
    if (!done && which == CLOCK_REALTIME) now->tv_sec += ahead();
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(gettimeofday);
    int done = real(now, zone);
    if (!done) now->tv_sec += ahead();
    return done;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
