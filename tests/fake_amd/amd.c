/* A libamd_smi.so that says what a script tells it to, for the binding `amdsmi` 7.
 *
 * The script is that of fake_nvml (FAKE_NVML_SCRIPT; see nvml.c there). The structures are those of
 * AMD's header as the binding has them; the tests compare the sizes. What is not defined here is
 * "not supported": `build` makes the rest from the names that the binding asks for.
 */
#include "../fake_nvml/script.h"

#include <stdint.h>

#define GPUS 8

enum { SUCCESS = 0, NOT_SUPPORTED = 2, NO_PERMISSION = 10, NOT_INITIALISED = 32 };

typedef struct {
    char market_name[256];
    uint32_t vendor_id;
    char vendor_name[256];
    uint32_t subvendor_id;
    uint64_t device_id;
    uint32_t rev_id;
    char asic_serial[256];
    uint32_t oam_id, num_of_compute_units;
    uint64_t target_graphics_version;
    uint32_t subsystem_id, reserved[21];
} asic_info;
typedef struct {
    uint32_t drm_render, drm_card, hsa_id, hip_id;
    char hip_uuid[256];
} enumeration_info;
typedef struct {
    uint32_t gfx_activity, umc_activity, mm_activity, reserved[13];
} engine_usage;
typedef struct {
    uint64_t socket_power;
    uint32_t current_socket_power, average_socket_power;
    uint64_t gfx_voltage, soc_voltage, mem_voltage;
    uint32_t power_limit;
    uint64_t reserved[18];
} power_info;
typedef struct {
    uint64_t power_cap, default_power_cap, dpm_cap, min_power_cap, max_power_cap, reserved[3];
} power_cap_info;
typedef struct {
    uint32_t clk, min_clk, max_clk;
    uint8_t clk_locked, clk_deep_sleep;
    uint32_t reserved[4];
} clk_info;
typedef struct {
    uint64_t correctable_count, uncorrectable_count, deferred_count, reserved[5];
} error_count;
typedef struct {
    char name[256];
    uint32_t pid;
    uint64_t mem;
    struct {
        uint64_t gfx, enc;
        uint32_t reserved[12];
    } engine_usage;
    struct {
        uint64_t gtt_mem, cpu_mem, vram_mem;
        uint32_t reserved[10];
    } memory_usage;
    char container_name[256];
    uint32_t cu_occupancy, reserved[11];
} proc_info;

#define SIZE(type) size_t size_of_##type(void) { return sizeof(type); }
SIZE(asic_info) SIZE(enumeration_info) SIZE(engine_usage) SIZE(power_info) SIZE(power_cap_info)
SIZE(clk_info) SIZE(error_count) SIZE(proc_info)

static int initialised;
static char handles[GPUS];

static void note(const char *what) {
    const char *path = getenv("FAKE_AMD_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file != NULL) fprintf(file, "%s %d\n", what, getpid()), fclose(file);
}

/* The text of a key of a device (NULL: of the library); an error where the script says so. */
static int text_of(char *device, const char *key, const char **text) {
    char name[8] = "-";
    if (!initialised) return NOT_INITIALISED;
    if (device != NULL) snprintf(name, sizeof name, "%d", (int)(device - handles));
    pthread_mutex_lock(&lock);
    read_script();
    const char *found = find(name, device != NULL, key);
    const char *lost = device == NULL ? NULL : find(name, 1, "lost");
    int result = found == NULL ? NOT_SUPPORTED : found[0] == '!' ? atoi(found + 1) : SUCCESS;
    if (lost != NULL && number(lost) != 0) result = 31; /* not found */
    pthread_mutex_unlock(&lock);
    *text = found;
    return result;
}
static int value_of(char *device, const char *key, double *value) {
    const char *text;
    int result = text_of(device, key, &text);
    if (result == SUCCESS) *value = number(text);
    return result;
}
/* A field that the device does not have. */
static uint32_t or_none(char *device, const char *key, uint32_t none) {
    double value;
    return value_of(device, key, &value) == SUCCESS ? (uint32_t)value : none;
}
static void copy(char *into, size_t size, const char *text) {
    snprintf(into, size, "%s", text);
    for (char *at = into; *at; at++)
        if (*at == '_') *at = ' ';
}

int amdsmi_init(uint64_t flags) {
    double error;
    (void)flags;
    initialised = 1;
    if (value_of(NULL, "init", &error) != NOT_SUPPORTED) {
        initialised = 0;
        return 34; /* driver not loaded */
    }
    note("init");
    return SUCCESS;
}
int amdsmi_shut_down(void) {
    initialised = 0;
    note("shutdown");
    return SUCCESS;
}
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    if (sockets != NULL) sockets[0] = handles;
    *count = 1;
    return SUCCESS;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **processors) {
    double found;
    (void)socket;
    int result = value_of(NULL, "count", &found);
    if (result != SUCCESS) return result;
    *count = (uint32_t)found;
    for (uint32_t i = 0; processors != NULL && i < *count; i++) processors[i] = &handles[i];
    return SUCCESS;
}
int amdsmi_get_gpu_device_uuid(char *device, unsigned int *length, char *uuid) {
    const char *text;
    int result = text_of(device, "uuid", &text);
    if (result == SUCCESS) snprintf(uuid, *length, "%s", text);
    return result;
}
int amdsmi_get_gpu_enumeration_info(char *device, enumeration_info *info) {
    const char *text;
    memset(info, 0, sizeof *info);
    int result = text_of(device, "hip_uuid", &text);
    if (result != SUCCESS) return result;
    snprintf(info->hip_uuid, sizeof info->hip_uuid, "%s", text);
    info->hip_id = or_none(device, "hip_id", UINT32_MAX);
    return SUCCESS;
}
int amdsmi_get_gpu_asic_info(char *device, asic_info *info) {
    const char *text;
    memset(info, 0, sizeof *info);
    int result = text_of(device, "name", &text);
    if (result == SUCCESS) copy(info->market_name, sizeof info->market_name, text);
    return result;
}
int amdsmi_get_gpu_activity(char *device, engine_usage *usage) {
    double ignored;
    int result = value_of(device, "util", &ignored);
    usage->gfx_activity = or_none(device, "util", 0xFFFF);
    usage->umc_activity = or_none(device, "util.memory", 0xFFFF);
    usage->mm_activity = 0xFFFF;
    return result;
}
static int bytes_of(char *device, int kind, const char *key, uint64_t *bytes) {
    double value;
    if (kind != 0) return NOT_SUPPORTED;
    int result = value_of(device, key, &value);
    if (result == SUCCESS) *bytes = (uint64_t)value;
    return result;
}
int amdsmi_get_gpu_memory_total(char *device, int kind, uint64_t *bytes) {
    return bytes_of(device, kind, "memory.total", bytes);
}
int amdsmi_get_gpu_memory_usage(char *device, int kind, uint64_t *bytes) {
    return bytes_of(device, kind, "memory.used", bytes);
}
int amdsmi_get_power_info(char *device, power_info *info) {
    double ignored;
    memset(info, 0, sizeof *info);
    info->current_socket_power = or_none(device, "power", 0xFFFF);
    info->average_socket_power = or_none(device, "power.average", 0xFFFF);
    int result = value_of(device, "power", &ignored);
    return info->average_socket_power != 0xFFFF ? SUCCESS : result;
}
int amdsmi_get_power_cap_info(char *device, uint32_t sensor, power_cap_info *info) {
    (void)sensor;
    memset(info, 0, sizeof *info);
    return bytes_of(device, 0, "power.limit", &info->power_cap);
}
int amdsmi_get_energy_count(char *device, uint64_t *ticks, float *resolution, uint64_t *at) {
    *resolution = 15.259f;
    *at = 0;
    return bytes_of(device, 0, "energy", ticks);
}
int amdsmi_get_temp_metric(char *device, int sensor, int metric, int64_t *value) {
    char key[40];
    double found;
    snprintf(key, sizeof key, "temperature%d.%d", sensor, metric);
    int result = value_of(device, key, &found);
    if (result == SUCCESS) *value = (int64_t)found;
    return result;
}
int amdsmi_get_clock_info(char *device, int kind, clk_info *info) {
    char key[40];
    double found;
    memset(info, 0, sizeof *info);
    snprintf(key, sizeof key, "clock%d", kind);
    int result = value_of(device, key, &found);
    info->clk = (uint32_t)found;
    snprintf(key, sizeof key, "clock%d.max", kind);
    info->max_clk = or_none(device, key, UINT32_MAX);
    return result;
}
int amdsmi_get_gpu_total_ecc_count(char *device, error_count *count) {
    memset(count, 0, sizeof *count);
    int result = bytes_of(device, 0, "ecc.corrected", &count->correctable_count);
    if (result == SUCCESS) result = bytes_of(device, 0, "ecc.uncorrected", &count->uncorrectable_count);
    return result;
}
int amdsmi_get_gpu_pci_replay_counter(char *device, uint64_t *count) {
    return bytes_of(device, 0, "pcie.replays", count);
}
int amdsmi_get_gpu_fan_speed(char *device, uint32_t sensor, int64_t *speed) {
    return bytes_of(device, (int)sensor, "fan", (uint64_t *)speed);
}
int amdsmi_get_gpu_fan_speed_max(char *device, uint32_t sensor, uint64_t *speed) {
    return bytes_of(device, (int)sensor, "fan.max", speed);
}
/* "procs" is "none", or "pid:bytes,pid:bytes". */
int amdsmi_get_gpu_process_list(char *device, uint32_t *count, proc_info *list) {
    const char *text;
    int result = text_of(device, "procs", &text);
    if (result != SUCCESS) return result;
    uint32_t found = 0;
    for (const char *at = strcmp(text, "none") == 0 ? NULL : text; at != NULL && found < *count; found++) {
        memset(&list[found], 0, sizeof list[found]);
        list[found].pid = (uint32_t)strtoul(at, NULL, 10);
        list[found].memory_usage.vram_mem = strtoull(strchr(at, ':') + 1, NULL, 10);
        at = strchr(at, ',');
        if (at != NULL) at++;
    }
    *count = found;
    return SUCCESS;
}
