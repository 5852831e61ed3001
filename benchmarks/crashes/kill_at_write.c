/* Counts the calls by which a program changes the files of a folder, and kills it at one of them, or lets the
 * disk be full from there on.
 *
 * Load it with LD_PRELOAD. KILL_AT_WRITE names a control file, `struct control` below, that all processes of the
 * program map: they share one count. Each call on a path below `folder` gets the next number and a line in `log`:
 *
 *     NUMBER PROCESS CALL PATH
 *
 * Call number `at` is not made: the processes that `accident` names are killed by SIGKILL before it. Of a write
 * half the bytes are written first. If the disk is full, nobody is killed: from that call on writes fail. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ALL_KILLED, MAIN_KILLED, WRITER_KILLED, DISK_FULL };

struct control {
  uint64_t count;    /* calls so far */
  uint64_t at;       /* the call of the accident; 0 is none */
  uint32_t accident; /* who is killed: all processes, the main one, or the one that makes the call */
  int32_t main;      /* process number of the main one; 0 until it starts */
  char folder[1024];
  char log[1024];
};

static struct control *control;

/* The first process of a program after the control file was filled in is its main one. */
static void enter(void) {
  if (!control->folder[0]) return;
  if (!control->main) control->main = getpid();
  else if (control->accident == ALL_KILLED) prctl(PR_SET_PDEATHSIG, SIGKILL);
}

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("KILL_AT_WRITE");
  int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (memory == MAP_FAILED) return;
  control = memory;
  enter();
  pthread_atfork(NULL, NULL, enter);
}

static void note(uint64_t number, const char *call, const char *path) {
  char line[PATH_MAX + 64];
  int length = snprintf(line, sizeof line, "%llu %d %s %s\n", (unsigned long long)number, getpid(), call, path);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  syscall(SYS_write, fd, line, (size_t)length);
  syscall(SYS_close, fd);
}

/* Count a call on an absolute path; tell whether the accident happens now. */
static int reached(const char *call, const char *path) {
  size_t length = strlen(control->folder);
  if (!length || strncmp(path, control->folder, length) || (path[length] != '/' && path[length])) return 0;
  uint64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
  note(number, call, path + length);
  return number == control->at || (control->accident == DISK_FULL && control->at && number > control->at);
}

static int reached_at(const char *call, int folder, const char *name) {
  char path[2 * PATH_MAX], link[64];
  if (!control || !name) return 0;
  if (name[0] == '/') return reached(call, name);
  snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  snprintf(path + length, sizeof path - (size_t)length, "/%s", name);
  return reached(call, path);
}

static int reached_fd(const char *call, int fd) {
  char path[PATH_MAX], link[64];
  if (!control) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return reached(call, path);
}

static int dies(void) { return control->accident != MAIN_KILLED || control->main == getpid(); }

static void kill_victims(void) {
  if (control->accident == DISK_FULL) return;
  if (control->accident != WRITER_KILLED && control->main > 0) kill(control->main, SIGKILL);
  if (dies()) kill(getpid(), SIGKILL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Calls that make or empty a file. */

#define OPEN(name)                                                                          \
  int name(const char *path, int flags, ...) {                                              \
    va_list rest;                                                                           \
    va_start(rest, flags);                                                                  \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                               \
    va_end(rest);                                                                           \
    if (flags & (O_CREAT | O_TRUNC) && reached_at("open", AT_FDCWD, path)) kill_victims();  \
    return REAL(name)(path, flags, mode);                                                   \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                        \
  int name(int folder, const char *path, int flags, ...) {                                  \
    va_list rest;                                                                           \
    va_start(rest, flags);                                                                  \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                               \
    va_end(rest);                                                                           \
    if (flags & (O_CREAT | O_TRUNC) && reached_at("open", folder, path)) kill_victims();    \
    return REAL(name)(folder, path, flags, mode);                                           \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                         \
  FILE *name(const char *path, const char *mode) {                                          \
    if (mode[0] != 'r' && reached_at("open", AT_FDCWD, path)) kill_victims();               \
    return REAL(name)(path, mode);                                                          \
  }
FOPEN(fopen)
FOPEN(fopen64)

/* Calls that write. */

/* The first write to a full disk writes what still fits. */
static ssize_t short_write(int fd, const void *bytes, size_t length) {
  static int full;
  if (!__atomic_exchange_n(&full, 1, __ATOMIC_SEQ_CST) && length > 1) return REAL(write)(fd, bytes, length / 2);
  errno = ENOSPC;
  return -1;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  if (reached_fd("write", fd)) {
    if (control->accident == DISK_FULL) return short_write(fd, bytes, length);
    if (dies()) REAL(write)(fd, bytes, length / 2);
    kill_victims();
  }
  return REAL(write)(fd, bytes, length);
}

#define PWRITE(name, offset_t)                                                              \
  ssize_t name(int fd, const void *bytes, size_t length, offset_t offset) {                 \
    if (reached_fd("write", fd)) {                                                          \
      if (dies()) REAL(name)(fd, bytes, length / 2, offset);                                \
      kill_victims();                                                                       \
    }                                                                                       \
    return REAL(name)(fd, bytes, length, offset);                                           \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* All others: the name, whether this is the call to kill at, and the parameters. */
#define CALL(result, name, now, parameters, arguments) \
  result name parameters {                             \
    if (now) kill_victims();                           \
    return REAL(name) arguments;                       \
  }

CALL(ssize_t, writev, reached_fd("write", fd), (int fd, const struct iovec *pieces, int count), (fd, pieces, count))
CALL(ssize_t, sendfile, reached_fd("write", to), (int to, int from, off_t *at, size_t count), (to, from, at, count))
CALL(ssize_t, sendfile64, reached_fd("write", to), (int to, int from, off64_t *at, size_t count),
     (to, from, at, count))
CALL(ssize_t, copy_file_range, reached_fd("write", to),
     (int from, off64_t *read_at, int to, off64_t *write_at, size_t count, unsigned flags),
     (from, read_at, to, write_at, count, flags))
CALL(int, ftruncate, reached_fd("truncate", fd), (int fd, off_t length), (fd, length))
CALL(int, ftruncate64, reached_fd("truncate", fd), (int fd, off64_t length), (fd, length))
CALL(int, truncate, reached_at("truncate", AT_FDCWD, path), (const char *path, off_t length), (path, length))
CALL(int, truncate64, reached_at("truncate", AT_FDCWD, path), (const char *path, off64_t length), (path, length))
CALL(int, fsync, reached_fd("fsync", fd), (int fd), (fd))
CALL(int, fdatasync, reached_fd("fsync", fd), (int fd), (fd))

/* Calls that change names. */

CALL(int, rename, reached_at("rename", AT_FDCWD, to), (const char *from, const char *to), (from, to))
CALL(int, renameat, reached_at("rename", into, to), (int in, const char *from, int into, const char *to),
     (in, from, into, to))
CALL(int, renameat2, reached_at("rename", into, to),
     (int in, const char *from, int into, const char *to, unsigned flags), (in, from, into, to, flags))
CALL(int, unlink, reached_at("unlink", AT_FDCWD, path), (const char *path), (path))
CALL(int, unlinkat, reached_at("unlink", folder, path), (int folder, const char *path, int flags),
     (folder, path, flags))
CALL(int, rmdir, reached_at("rmdir", AT_FDCWD, path), (const char *path), (path))
CALL(int, mkdir, reached_at("mkdir", AT_FDCWD, path), (const char *path, mode_t mode), (path, mode))
CALL(int, mkdirat, reached_at("mkdir", folder, path), (int folder, const char *path, mode_t mode),
     (folder, path, mode))
