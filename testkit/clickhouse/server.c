/* A ClickHouse on the loopback, over HTTP alone, from the library libchdb.so.
 *
 *   server LIBRARY DATA_DIR HTTP_PORT CONFIG.xml
 *
 * The library has the whole of clickhouse-local. SYSTEM START LISTEN opens the handlers of clickhouse-server; the query
 * after it reads a FIFO that nobody writes to, and so waits without any work until SIGTERM or SIGINT comes. Then the FIFO
 * is opened and closed, the query ends, logs are flushed, and the process exits with 0; after 10 s without that it is
 * killed. It is one process: STOP, CONT and KILL act on its pid.
 *
 * Where its standard input is a pipe, the end of it is the end of the server, so that none outlives a test. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct { char *buf; size_t len; void *v; double elapsed; unsigned long rows, bytes; char *err; } result_t;

static char fifo[4096];
static sigset_t stop_signals;

static void *wait_for_stop(void *unused) {
  (void)unused;
  int sig;
  sigwait(&stop_signals, &sig);
  int fd = open(fifo, O_WRONLY | O_NONBLOCK); /* ENXIO if the engine is not reading yet: nothing to flush then */
  if (fd >= 0) { close(fd); sleep(10); }
  kill(getpid(), SIGKILL);
  return NULL;
}

static void *wait_for_parent(void *unused) {
  (void)unused;
  char byte;
  ssize_t got;
  while ((got = read(0, &byte, 1)) > 0 || (got < 0 && errno == EINTR)) {}
  kill(getpid(), SIGKILL);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: %s LIBRARY DATA_DIR HTTP_PORT CONFIG.xml\n", argv[0]);
    return 2;
  }
  mkdir(argv[2], 0700);
  char *data = realpath(argv[2], NULL);
  if (!data) { perror(argv[2]); return 1; }
  snprintf(fifo, sizeof fifo, "%s/stop.fifo", data);
  if (mkfifo(fifo, 0600) && errno != EEXIST) { perror(fifo); return 1; }

  /* Blocked before any thread exists, so that the engine's threads inherit it and only sigwait sees them. */
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);
  pthread_t stop, parent;
  pthread_create(&stop, NULL, wait_for_stop, NULL);
  struct stat input;
  if (fstat(0, &input) == 0 && S_ISFIFO(input.st_mode)) pthread_create(&parent, NULL, wait_for_parent, NULL);

  void *lib = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  if (!lib) { fprintf(stderr, "%s\n", dlerror()); return 1; }
  result_t *(*run)(int, char **) = (result_t * (*)(int, char **)) dlsym(lib, "query_stable_v2");
  void (*handlers)(int) = (void (*)(int))dlsym(lib, "chdb_set_signal_handlers_enabled");
  if (!run) { fprintf(stderr, "query_stable_v2 is not in %s\n", argv[1]); return 1; }
  if (handlers) handlers(0);

  char http[64], query[8192];
  snprintf(http, sizeof http, "--http_port=%s", argv[3]);
  snprintf(query, sizeof query,
           "SYSTEM START LISTEN HTTP;"
           "SELECT * FROM file('%s', 'LineAsString') SETTINGS max_execution_time = 0 FORMAT Null;"
           "SYSTEM FLUSH LOGS;", fifo);
  char *args[] = {"clickhouse", "--config-file", argv[4], "--path", data, "--query", query, "--",
                  "--listen_host=127.0.0.1", http, NULL};
  result_t *r = run(sizeof args / sizeof *args - 1, args);
  if (r && r->err) { fprintf(stderr, "clickhouse: %s\n", r->err); return 1; }
  fflush(NULL);
  _exit(0);
}
