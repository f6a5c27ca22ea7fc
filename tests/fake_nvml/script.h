/* The script of a fake driver: see nvml.c for what its lines are. FAKE_NVML_SCRIPT names the file. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINES 4096

typedef struct {
    double at;
    char device[8], key[40], value[400];
} Line;

static Line lines[LINES];
static int count_of_lines;
static double epoch;
static struct stat read_as;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9 - epoch;
}

static void read_script(void) {
    const char *path = getenv("FAKE_NVML_SCRIPT");
    struct stat found;
    if (path == NULL || stat(path, &found) != 0) {
        count_of_lines = 0;
        return;
    }
    if (found.st_ino == read_as.st_ino && found.st_mtim.tv_nsec == read_as.st_mtim.tv_nsec &&
        found.st_mtim.tv_sec == read_as.st_mtim.tv_sec)
        return;
    FILE *file = fopen(path, "r");
    char text[600];
    count_of_lines = 0;
    while (file != NULL && count_of_lines < LINES && fgets(text, sizeof text, file)) {
        Line *line = &lines[count_of_lines];
        if (sscanf(text, "%lf %7s %39s %399s", &line->at, line->device, line->key, line->value) == 4) {
            if (strcmp(line->key, "epoch") == 0) epoch = atof(line->value);
            count_of_lines++;
        }
    }
    if (file != NULL) fclose(file);
    read_as = found;
}

static const char *find(const char *device, int any, const char *key) {
    const char *value = NULL;
    double time = now();
    for (int i = 0; i < count_of_lines; i++) {
        Line *line = &lines[i];
        if (line->at <= time && strcmp(line->key, key) == 0 &&
            (strcmp(line->device, device) == 0 || (any && strcmp(line->device, "*") == 0)))
            value = line->value;
    }
    return value;
}

static double number(const char *text) {
    char *end;
    double value = strtod(text, &end);
    return *end == '+' ? value + strtod(end + 1, NULL) * now() : value;
}
