/* Preloaded, it moves the wall clock of one process by the seconds that a file holds, while the process runs.

   A wait until a time of the wall clock ends when that clock gets there, as in the kernel. Other clocks stay. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 20000000L
#define WALL_CLOCK_SECONDS 1000000000L /* a time beyond is one of the wall clock, none of the monotonic one */

static volatile int64_t none, *offset = &none;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("CLOCK_OFFSET_FILE");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file >= 0) {
    void *shared = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) offset = shared;
    close(file);
  }
}

static int real(clockid_t clock, struct timespec *now) { return (int)syscall(SYS_clock_gettime, clock, now); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = real(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (result) *result = exact.tv_sec;
  return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

/* The end of the next slice of a wait by the kernel's own clock; 0 when the wait is over. */
static int next_slice(const struct timespec *until, struct timespec *slice) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t left = (int64_t)(until->tv_sec - now.tv_sec) * 1000000000L + until->tv_nsec - now.tv_nsec;
  if (left <= 0) return 0;
  real(CLOCK_REALTIME, slice);
  slice->tv_nsec += left < SLICE_NS ? left : SLICE_NS;
  if (slice->tv_nsec >= 1000000000L) {
    slice->tv_sec++;
    slice->tv_nsec -= 1000000000L;
  }
  return 1;
}

typedef int pthread_wait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static pthread_wait *next;
  struct timespec slice;
  if (!next) next = (pthread_wait *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  if (until->tv_sec < WALL_CLOCK_SECONDS) return next(condition, mutex, until);
  while (next_slice(until, &slice)) {
    int result = next(condition, mutex, &slice);
    if (result != ETIMEDOUT) return result;
  }
  return ETIMEDOUT;
}

typedef int c11_wait(cnd_t *, mtx_t *, const struct timespec *);

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static c11_wait *next;
  struct timespec slice;
  if (!next) next = (c11_wait *)dlsym(RTLD_NEXT, "cnd_timedwait");
  while (next_slice(until, &slice)) {
    int result = next(condition, mutex, &slice);
    if (result != thrd_timedout) return result;
  }
  return thrd_timedout;
}
