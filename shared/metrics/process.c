/* What this process uses, and what it may use: affinity and control groups (version 2, and 1 where
 * a machine still has it) bound a container, not the machine's size. */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "metrics_internal.h"

/* Readings closer together than this give the former ratio again: two scrapers must not see noise
 * of each other's making. */
#define RATIO_INTERVAL_NS 200000000u

struct ort_metrics__process {
    pthread_mutex_t lock; /* guards last and ratio; a leaf */
    ort_process_last last;
    double ratio;
    double start_s;
};

/* The first line of a small file; false when there is none. */
static bool
line_read(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    bool got = file != NULL && fgets(line, (int)size, file) != NULL;

    if (file != NULL) {
        (void)fclose(file);
    }
    return got;
}

/* This process's group of the unified hierarchy, "/system.slice/x.service". */
static bool
group_path(char *path, size_t size)
{
    char line[1024];
    FILE *file = fopen("/proc/self/cgroup", "re");
    bool found = false;

    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = '\0';
            found = strlen(line + 3) < size;
            if (found) {
                memcpy(path, line + 3, strlen(line + 3) + 1);
            }
        }
    }
    (void)fclose(file);
    return found;
}

/* Calls take for the file `name` of the group and of each group above it: any may set the limit. */
static void
groups_walk(const char *name, void (*take)(const char *line, void *arg), void *arg)
{
    char group[512] = "";
    char file[1024];
    char line[128];

    if (!group_path(group, sizeof group)) {
        return;
    }
    for (;;) {
        (void)snprintf(file, sizeof file, "/sys/fs/cgroup%s/%s", group, name);
        if (line_read(file, line, sizeof line)) {
            take(line, arg);
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

static void
take_memory_max(const char *line, void *arg)
{
    uint64_t *limit = arg;
    char *end = NULL;
    unsigned long long v = strtoull(line, &end, 10);

    if (end != line && v < *limit) { /* "max" is no number */
        *limit = v;
    }
}

static void
take_cpu_max(const char *line, void *arg)
{
    double *cpus = arg;
    unsigned long long quota = 0;
    unsigned long long period = 0;

    if (sscanf(line, "%llu %llu", &quota, &period) == 2 && period > 0 &&
        (double)quota / (double)period < *cpus) {
        *cpus = (double)quota / (double)period;
    }
}

static uint64_t
memory_limit(void)
{
    char line[128];
    uint64_t limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    groups_walk("memory.max", take_memory_max, &limit);
    if (line_read("/sys/fs/cgroup/memory/memory.limit_in_bytes", line, sizeof line)) {
        take_memory_max(line, &limit);
    }
    return limit;
}

static double
cpu_count(void)
{
    cpu_set_t set;
    double cpus = 1;

    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        cpus = CPU_COUNT(&set);
    }
    groups_walk("cpu.max", take_cpu_max, &cpus);
    return cpus > 0 ? cpus : 1;
}

/* Pages: virtual, resident. */
static void
statm_read(uint64_t *virtual_bytes, uint64_t *resident_bytes)
{
    unsigned long long pages[2] = {0, 0};
    char line[128];

    if (line_read("/proc/self/statm", line, sizeof line)) {
        (void)sscanf(line, "%llu %llu", &pages[0], &pages[1]);
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *virtual_bytes = pages[0] * page;
    *resident_bytes = pages[1] * page;
}

static uint64_t
cpu_ns(void)
{
    struct timespec ts = {0, 0};

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void
ort_process_load_read(ort_process_last *last, ort_process_load *out)
{
    uint64_t unused = 0;
    uint64_t cpu = cpu_ns();
    uint64_t wall = ort_mono_ns();

    *out = (ort_process_load){.cpu_count = cpu_count(), .memory_limit_bytes = memory_limit()};
    statm_read(&unused, &out->memory_usage_bytes);
    if (last->wall_ns != 0 && wall > last->wall_ns) {
        double ratio =
            (double)(cpu - last->cpu_ns) / (double)(wall - last->wall_ns) / out->cpu_count;
        out->cpu_ratio = ratio > 1 ? 1 : ratio;
    }
    *last = (ort_process_last){.cpu_ns = cpu, .wall_ns = wall};
}

/* Entries of /proc/self/fd, but for the one that reads it. */
static double
open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double n = -1;

    if (dir == NULL) {
        return 0;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        n += e->d_name[0] != '.';
    }
    (void)closedir(dir);
    return n;
}

ort_metrics__process *
ort_metrics__process_new(void)
{
    ort_metrics__process *p = calloc(1, sizeof *p);

    if (p != NULL) {
        pthread_mutex_init(&p->lock, NULL);
        p->start_s = (double)ort_wall_ms() / 1000.0;
        p->last = (ort_process_last){.cpu_ns = cpu_ns(), .wall_ns = ort_mono_ns()};
    }
    return p;
}

void
ort_metrics__process_free(ort_metrics__process *process)
{
    if (process != NULL) {
        pthread_mutex_destroy(&process->lock);
        free(process);
    }
}

void
ort_metrics__process_collect(ort_metrics_out *out, void *arg)
{
    ort_metrics__process *p = arg;
    struct rlimit files = {0, 0};
    uint64_t virtual_bytes = 0;
    uint64_t resident_bytes = 0;
    ort_process_load load = {0};

    pthread_mutex_lock(&p->lock);
    ort_process_last last = p->last;
    ort_process_load_read(&last, &load);
    if (last.wall_ns - p->last.wall_ns >= RATIO_INTERVAL_NS) {
        p->last = last;
        p->ratio = load.cpu_ratio;
    }
    double ratio = p->ratio;
    pthread_mutex_unlock(&p->lock);
    statm_read(&virtual_bytes, &resident_bytes);
    (void)getrlimit(RLIMIT_NOFILE, &files);

    const struct {
        const char *name;
        const char *help;
        ort_metric_type type;
        double v;
    } rows[] = {
        {"orthant_cpu_usage_ratio", "Share of the CPUs this process may use that it uses.",
         ORT_METRIC_GAUGE, ratio},
        {"orthant_memory_limit_bytes", "Memory this process may use: control group or machine.",
         ORT_METRIC_GAUGE, (double)load.memory_limit_bytes},
        {"orthant_memory_usage_bytes", "Resident memory of this process.", ORT_METRIC_GAUGE,
         (double)load.memory_usage_bytes},
        {"process_cpu_seconds_total", "CPU time this process has used.", ORT_METRIC_COUNTER,
         (double)cpu_ns() / 1e9},
        {"process_max_fds", "File descriptors this process may have open.", ORT_METRIC_GAUGE,
         (double)files.rlim_cur},
        {"process_open_fds", "File descriptors this process has open.", ORT_METRIC_GAUGE,
         open_fds()},
        {"process_resident_memory_bytes", "Resident memory of this process.", ORT_METRIC_GAUGE,
         (double)resident_bytes},
        {"process_start_time_seconds", "Start of this process, since 1970.", ORT_METRIC_GAUGE,
         p->start_s},
        {"process_virtual_memory_bytes", "Virtual memory of this process.", ORT_METRIC_GAUGE,
         (double)virtual_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ort_metrics_emit(out, rows[i].type, rows[i].name, rows[i].help, NULL, 0, rows[i].v);
    }
}
