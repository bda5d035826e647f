// A disk that fails, hangs or is watched, and a wall clock that jumps: loaded into ztmon by LD_PRELOAD.
//
// It acts on the database's files alone, which are those whose paths begin with $FAULTS_DB, and on that file's
// directory. $FAULTS_CONTROL is a file of 64-bit words, mapped, with which the test says what to do while ztmon runs.
// If there is a $FAULTS_LOG, every change of the database, its -wal and its -journal is appended there.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The words of the control file; shim.rs has the same.
enum {
    OPERATIONS, // how many there were so far
    FAILED,     // how many of them were made to fail
    ERROR,      // the errno of those that are to fail, 0 for none; KILL for SIGKILL halfway through
    FROM,       // the first operation to fail
    UNTIL,      // the first that does not any more
    FROZEN,     // whether operations wait
    WAITING,    // how many do
    CLOCK,      // what is added to the wall clock, in nanoseconds
    WORDS
};
#define KILL UINT64_MAX

// What an operation does and to which file, as in the log; shim.rs has the same.
enum { OPEN, WRITE, TRUNCATE, SYNC, UNLINK, RENAME };
enum { NONE, DATABASE, WAL, JOURNAL, SHM, DIRECTORY, OTHER };

struct record {
    uint64_t start, end; // on the monotonic clock, in nanoseconds
    uint32_t what, file;
    uint64_t at;         // the offset of a write, the new length of a truncated file
    uint64_t len;        // bytes of a write; they follow
};

static const char *database;
static size_t directory_len;
static volatile uint64_t *control;
static int log_fd = -1;
// One at a time, so that the log has them in their order.
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
// By descriptor. ztmon has a few dozen.
static unsigned char files[4096];

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULTS_CONTROL"), *log = getenv("FAULTS_LOG");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *words = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    database = getenv("FAULTS_DB");
    if (words == MAP_FAILED || !database || !strrchr(database, '/'))
        abort();
    directory_len = strrchr(database, '/') - database;
    if (log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    control = words;
}

static uint64_t word(int index) { return __atomic_load_n(&control[index], __ATOMIC_SEQ_CST); }

static uint64_t add(int index, uint64_t value) { return __atomic_fetch_add(&control[index], value, __ATOMIC_SEQ_CST); }

static int file_at(const char *path)
{
    if (!control || !path)
        return NONE;
    size_t len = strlen(database);
    if (strlen(path) == directory_len && !strncmp(path, database, directory_len))
        return DIRECTORY;
    if (strncmp(path, database, len))
        return NONE;
    path += len;
    return !*path                      ? DATABASE
         : !strcmp(path, "-wal")     ? WAL
         : !strcmp(path, "-journal") ? JOURNAL
         : !strcmp(path, "-shm")     ? SHM
                                     : OTHER;
}

static int file_of(int fd) { return fd >= 0 && fd < (int)sizeof files ? files[fd] : NONE; }

static uint64_t monotonic(void)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void note(struct record record, const void *data)
{
    struct iovec parts[] = {{&record, sizeof record}, {(void *)data, data ? record.len : 0}};
    if (syscall(SYS_writev, log_fd, parts, 2) != (long)(parts[0].iov_len + parts[1].iov_len))
        abort();
}

// Does what the system call does, or what the test wants instead.
static long operate(int what, int file, uint64_t at, const void *data, long number, long a, long b, long c, long d)
{
    if (word(FROZEN)) {
        add(WAITING, 1);
        while (word(FROZEN))
            usleep(1000);
        add(WAITING, -1);
    }
    uint64_t operation = add(OPERATIONS, 1), error = word(ERROR);
    if (error && operation >= word(FROM) && operation < word(UNTIL)) {
        add(FAILED, 1);
        if (error == KILL) {
            if (what == WRITE)
                syscall(number, a, b, c / 2, d);
            kill(getpid(), SIGKILL);
        }
        errno = error;
        return -1;
    }
    pthread_mutex_lock(&one_at_a_time);
    uint64_t start = monotonic();
    long result = syscall(number, a, b, c, d);
    int kept = errno;
    if (log_fd >= 0 && result >= 0 && file != SHM) {
        uint64_t len = what == WRITE ? result : 0;
        note((struct record){start, monotonic(), what, file, at, len}, data);
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = kept;
    return result;
}

static int open_file(int directory, const char *path, int flags, int mode)
{
    int file = file_at(path);
    long fd = file != NONE && flags & O_CREAT
                  ? operate(OPEN, file, 0, NULL, SYS_openat, directory, (long)path, flags, mode)
                  : syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 && fd < (int)sizeof files)
        files[fd] = file;
    return fd;
}

// The mode is there only with O_CREAT; otherwise nobody looks at it.
#define OPEN_WITH_MODE(directory)                                                                                      \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;                                                  \
    va_end(rest);                                                                                                      \
    return open_file(directory, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN_WITH_MODE(AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPEN_WITH_MODE(AT_FDCWD); }
int openat(int directory, const char *path, int flags, ...) { OPEN_WITH_MODE(directory); }
int openat64(int directory, const char *path, int flags, ...) { OPEN_WITH_MODE(directory); }

int close(int fd)
{
    if (fd >= 0 && fd < (int)sizeof files)
        files[fd] = NONE;
    return syscall(SYS_close, fd);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    int file = file_of(fd);
    if (file == NONE)
        return syscall(SYS_pwrite64, fd, data, len, at);
    return operate(WRITE, file, at, data, SYS_pwrite64, fd, (long)data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }

ssize_t write(int fd, const void *data, size_t len)
{
    int file = file_of(fd);
    if (file == NONE)
        return syscall(SYS_write, fd, data, len);
    return operate(WRITE, file, syscall(SYS_lseek, fd, 0, SEEK_CUR), data, SYS_write, fd, (long)data, len, 0);
}

int ftruncate64(int fd, off64_t len)
{
    int file = file_of(fd);
    if (file == NONE)
        return syscall(SYS_ftruncate, fd, len);
    return operate(TRUNCATE, file, len, NULL, SYS_ftruncate, fd, len, 0, 0);
}

int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

int fsync(int fd)
{
    int file = file_of(fd);
    return file == NONE ? syscall(SYS_fsync, fd) : operate(SYNC, file, 0, NULL, SYS_fsync, fd, 0, 0, 0);
}

int fdatasync(int fd)
{
    int file = file_of(fd);
    return file == NONE ? syscall(SYS_fdatasync, fd) : operate(SYNC, file, 0, NULL, SYS_fdatasync, fd, 0, 0, 0);
}

int unlink(const char *path)
{
    int file = file_at(path);
    if (file == NONE)
        return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    return operate(UNLINK, file, 0, NULL, SYS_unlinkat, AT_FDCWD, (long)path, 0, 0);
}

int rename(const char *from, const char *to)
{
    int file = file_at(from) != NONE ? file_at(from) : file_at(to);
    if (file == NONE)
        return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    return operate(RENAME, file, 0, NULL, SYS_renameat, AT_FDCWD, (long)from, AT_FDCWD, (long)to);
}

// Adds to a time what the test wants.
static void shift(int64_t *seconds, long *nanoseconds)
{
    int64_t offset = control ? (int64_t)word(CLOCK) : 0;
    *seconds += offset / 1000000000;
    *nanoseconds += offset % 1000000000;
    if (*nanoseconds >= 1000000000)
        *nanoseconds -= 1000000000, ++*seconds;
    if (*nanoseconds < 0)
        *nanoseconds += 1000000000, --*seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(&time->tv_sec, &time->tv_nsec);
    return result;
}

// The kernel stamps packets by the same clock, so what libpcap hands over is shifted, too.
struct packet {
    struct timeval time;
    uint32_t captured, original;
};
typedef void (*handler)(unsigned char *, const struct packet *, const unsigned char *);
struct handing_over {
    handler each;
    unsigned char *user;
};

static void hand_over(unsigned char *to, const struct packet *packet, const unsigned char *bytes)
{
    struct handing_over *over = (struct handing_over *)to;
    struct packet shifted = *packet;
    long nanoseconds = shifted.time.tv_usec * 1000;
    shift(&shifted.time.tv_sec, &nanoseconds);
    shifted.time.tv_usec = nanoseconds / 1000;
    over->each(over->user, &shifted, bytes);
}

int pcap_dispatch(void *capture, int count, handler each, unsigned char *user)
{
    static int (*real)(void *, int, handler, unsigned char *);
    if (!real)
        real = (int (*)(void *, int, handler, unsigned char *))dlsym(RTLD_NEXT, "pcap_dispatch");
    struct handing_over over = {each, user};
    return real(capture, count, hand_over, (unsigned char *)&over);
}
