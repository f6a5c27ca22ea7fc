/* A libnvidia-ml.so.1 that says what a script tells it to.
 *
 * FAKE_NVML_SCRIPT names a text file that is read anew whenever it changes. Its lines are
 *
 *     <seconds> <device> <key> <value>
 *
 * device: an index ("0"), a MIG device ("0/1": GPU 0, MIG 1), "*" for all GPUs, "-" for the library.
 * value:  a number; "a+bt", which grows by b a second; "!n", which makes the call return error n;
 *         a text without spaces ("_" is shown as a space).
 * Of the lines that apply, the last one whose time has come counts. Times are seconds after the
 * reading of CLOCK_MONOTONIC that "0 - epoch <seconds>" gives, so that several processes agree. A
 * key that the script does not have is "not supported". Two keys say more than a value: "lost" makes
 * every query of a device fail, "delay" makes each take so many milliseconds.
 *
 * Built with -DOLD_DRIVER it lacks the symbols that drivers of 2021 did not have.
 */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include "nvml.h"

#include "script.h"

#define GPUS 16
#define MIGS 8

struct nvmlDevice_st {
    int gpu, mig; /* mig is -1 for the GPU itself */
};

static struct nvmlDevice_st handles[GPUS][MIGS + 1];
static int initialised;

/* The text of a key; an error where the script says so. */
static nvmlReturn_t text_of(nvmlDevice_t device, const char *key, const char **text) {
    char name[32];
    pthread_mutex_lock(&lock);
    read_script();
    nvmlReturn_t result = NVML_SUCCESS;
    if (!initialised) {
        result = NVML_ERROR_UNINITIALIZED;
    } else if (device == NULL) {
        *text = find("-", 0, key);
    } else {
        const char *lost, *delay;
        snprintf(name, sizeof name, "%d", device->gpu);
        lost = find(name, 1, "lost");
        delay = find(name, 1, "delay");
        if (delay != NULL) usleep((useconds_t)(number(delay) * 1000));
        if (device->mig >= 0) snprintf(name, sizeof name, "%d/%d", device->gpu, device->mig);
        *text = find(name, device->mig < 0, key);
        if (lost != NULL && number(lost) != 0) result = NVML_ERROR_GPU_IS_LOST;
    }
    if (result == NVML_SUCCESS && *text == NULL) result = NVML_ERROR_NOT_SUPPORTED;
    if (result == NVML_SUCCESS && (*text)[0] == '!') result = (nvmlReturn_t)atoi(*text + 1);
    pthread_mutex_unlock(&lock);
    return result;
}

static nvmlReturn_t value_of(nvmlDevice_t device, const char *key, double *value) {
    const char *text;
    nvmlReturn_t result = text_of(device, key, &text);
    if (result == NVML_SUCCESS) *value = number(text);
    return result;
}

static nvmlReturn_t copy_of(nvmlDevice_t device, const char *key, char *into, unsigned int length) {
    const char *text;
    nvmlReturn_t result = text_of(device, key, &text);
    if (result != NVML_SUCCESS) return result;
    snprintf(into, length, "%s", text);
    for (char *at = into; *at; at++)
        if (*at == '_') *at = ' ';
    return result;
}

#define NUMBER(function, key)                                                 \
    nvmlReturn_t function(nvmlDevice_t device, unsigned int *value) {         \
        double found;                                                         \
        nvmlReturn_t result = value_of(device, key, &found);                  \
        if (result == NVML_SUCCESS) *value = (unsigned int)found;             \
        return result;                                                        \
    }

/* --- the library ----------------------------------------------------------------------------- */

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    initialised++;
    double ignored;
    nvmlReturn_t result = value_of(NULL, "init", &ignored);
    if (result != NVML_SUCCESS && result != NVML_ERROR_NOT_SUPPORTED) {
        initialised--;
        return result;
    }
    for (int gpu = 0; gpu < GPUS; gpu++)
        for (int mig = -1; mig < MIGS; mig++) {
            handles[gpu][mig + 1].gpu = gpu;
            handles[gpu][mig + 1].mig = mig;
        }
    const char *log = getenv("FAKE_NVML_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (file != NULL) fprintf(file, "init %d\n", getpid()), fclose(file);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    if (!initialised) return NVML_ERROR_UNINITIALIZED;
    initialised--;
    const char *log = getenv("FAKE_NVML_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (file != NULL) fprintf(file, "shutdown %d\n", getpid()), fclose(file);
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    return result == NVML_SUCCESS ? "Success" : "An error that the script asked for";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    return copy_of(NULL, "driver", version, length);
}
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    return copy_of(NULL, "driver", version, length);
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 12040;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    double found;
    nvmlReturn_t result = value_of(NULL, "count", &found);
    if (result == NVML_SUCCESS) *count = (unsigned int)found;
    return result;
}
nvmlReturn_t nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    double found, count;
    nvmlReturn_t result = value_of(NULL, "count", &count);
    if (result != NVML_SUCCESS) return result;
    if (index >= count || index >= GPUS) return NVML_ERROR_INVALID_ARGUMENT;
    *device = &handles[index][0];
    result = value_of(*device, "handle", &found);
    return result == NVML_ERROR_NOT_SUPPORTED ? NVML_SUCCESS : result;
}
nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    for (int gpu = 0; gpu < GPUS; gpu++)
        for (int mig = -1; mig < MIGS; mig++) {
            const char *text;
            nvmlDevice_t each = &handles[gpu][mig + 1];
            if (text_of(each, "uuid", &text) == NVML_SUCCESS && strcmp(text, uuid) == 0) {
                *device = each;
                return NVML_SUCCESS;
            }
        }
    return NVML_ERROR_NOT_FOUND;
}

/* --- a device -------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    *index = (unsigned int)(device->mig < 0 ? device->gpu : device->mig);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    return copy_of(device, "name", name, length);
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    return copy_of(device, "uuid", uuid, length);
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    double gpu, memory;
    nvmlReturn_t result = value_of(device, "util", &gpu);
    if (result == NVML_SUCCESS) result = value_of(device, "util.memory", &memory);
    if (result != NVML_SUCCESS) return result;
    rates->gpu = (unsigned int)gpu;
    rates->memory = (unsigned int)memory;
    return result;
}
static nvmlReturn_t codec(nvmlDevice_t device, const char *key, unsigned int *value, unsigned int *us) {
    double found;
    nvmlReturn_t result = value_of(device, key, &found);
    if (result != NVML_SUCCESS) return result;
    *value = (unsigned int)found;
    *us = 167000;
    return result;
}
nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *value, unsigned int *us) {
    return codec(device, "encoder", value, us);
}
nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *value, unsigned int *us) {
    return codec(device, "decoder", value, us);
}

static nvmlReturn_t memory(nvmlDevice_t device, double *total, double *reserved, double *used) {
    nvmlReturn_t result = value_of(device, "memory.total", total);
    if (result == NVML_SUCCESS) result = value_of(device, "memory.used", used);
    if (result != NVML_SUCCESS) return result;
    if (value_of(device, "memory.reserved", reserved) != NVML_SUCCESS) *reserved = 0;
    return result;
}
/* As drivers do: the first version counts what is reserved among what is used. */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *info) {
    double total, reserved, used;
    nvmlReturn_t result = memory(device, &total, &reserved, &used);
    if (result != NVML_SUCCESS) return result;
    info->total = (unsigned long long)total;
    info->used = (unsigned long long)(used + reserved);
    info->free = info->total - info->used;
    return result;
}
#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *info) {
    double total, reserved, used;
    if (info->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = memory(device, &total, &reserved, &used);
    if (result != NVML_SUCCESS) return result;
    info->total = (unsigned long long)total;
    info->reserved = (unsigned long long)reserved;
    info->used = (unsigned long long)used;
    info->free = info->total - info->used - info->reserved;
    return result;
}
#endif

NUMBER(nvmlDeviceGetPowerUsage, "power")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power.limit")
NUMBER(nvmlDeviceGetPowerManagementLimit, "power.limit")
NUMBER(nvmlDeviceGetFanSpeed, "fan")
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie.replays")
NUMBER(nvmlDeviceGetMaxMigDeviceCount, "mig.max")
NUMBER(nvmlDeviceGetGpuInstanceId, "mig.gpu_instance")
NUMBER(nvmlDeviceGetComputeInstanceId, "mig.compute_instance")

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *value) {
    double found;
    nvmlReturn_t result = value_of(device, "energy", &found);
    if (result == NVML_SUCCESS) *value = (unsigned long long)found;
    return result;
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                      unsigned int *value) {
    double found;
    (void)sensor;
    nvmlReturn_t result = value_of(device, "temperature", &found);
    if (result == NVML_SUCCESS) *value = (unsigned int)found;
    return result;
}
#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    double found;
    nvmlReturn_t result = value_of(device, "temperature", &found);
    if (result == NVML_SUCCESS) temperature->temperature = (int)found;
    return result;
}
#endif
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device,
                                               nvmlTemperatureThresholds_t threshold,
                                               unsigned int *value) {
    char key[40];
    double found;
    snprintf(key, sizeof key, "temperature.limit%d", (int)threshold);
    nvmlReturn_t result = value_of(device, key, &found);
    if (result == NVML_SUCCESS) *value = (unsigned int)found;
    return result;
}
static nvmlReturn_t clock_of(nvmlDevice_t device, nvmlClockType_t type, const char *kind,
                             unsigned int *value) {
    char key[40];
    double found;
    const char *names[] = {"graphics", "sm", "memory", "video"};
    if (type > 3) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(key, sizeof key, "%s.%s", kind, names[type]);
    nvmlReturn_t result = value_of(device, key, &found);
    if (result == NVML_SUCCESS) *value = (unsigned int)found;
    return result;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *value) {
    return clock_of(device, type, "clock", value);
}
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *value) {
    return clock_of(device, type, "clock.max", value);
}
nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *state) {
    double found;
    nvmlReturn_t result = value_of(device, "pstate", &found);
    if (result == NVML_SUCCESS) *state = (nvmlPstates_t)found;
    return result;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    double found;
    nvmlReturn_t result = value_of(device, "throttle", &found);
    if (result == NVML_SUCCESS) *reasons = (unsigned long long)found;
    return result;
}
#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, reasons);
}
#endif
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                         nvmlEccCounterType_t counter, unsigned long long *value) {
    double found;
    if (counter != NVML_VOLATILE_ECC) return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t result =
        value_of(device, type == NVML_MEMORY_ERROR_TYPE_CORRECTED ? "ecc.corrected" : "ecc.uncorrected", &found);
    if (result == NVML_SUCCESS) *value = (unsigned long long)found;
    return result;
}
/* It takes as long as the real one, which counts for 20 ms. */
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter,
                                         unsigned int *value) {
    double found;
    nvmlReturn_t result = value_of(device, counter == NVML_PCIE_UTIL_TX_BYTES ? "pcie.tx" : "pcie.rx", &found);
    if (result != NVML_SUCCESS) return result;
    usleep(20000);
    *value = (unsigned int)found;
    return result;
}
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    const char *text = NULL;
    nvmlReturn_t result = text_of(device, "fields", &text);
    if (result != NVML_SUCCESS && (text != NULL || result != NVML_ERROR_NOT_SUPPORTED)) return result;
    for (int i = 0; i < count; i++) {
        char key[40];
        double found;
        snprintf(key, sizeof key, "field%u", values[i].fieldId);
        values[i].nvmlReturn = value_of(device, key, &found);
        if (values[i].nvmlReturn != NVML_SUCCESS) continue;
        if (values[i].fieldId == NVML_FI_DEV_MEMORY_TEMP) {
            values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
            values[i].value.uiVal = (unsigned int)found;
        } else {
            values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
            values[i].value.ullVal = (unsigned long long)found;
        }
    }
    return NVML_SUCCESS;
}

/* --- processes: "procs" is "none", or pid:bytes:sm% and so on, separated by commas -------------- */

typedef struct {
    unsigned int pid, sm, instance;
    long long bytes; /* -1: the driver does not say */
} Process;

static nvmlReturn_t processes(nvmlDevice_t device, Process *found, unsigned int *count) {
    const char *text;
    nvmlReturn_t result = text_of(device, "procs", &text);
    *count = 0;
    if (result != NVML_SUCCESS) return result;
    char copy[400], *state = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *part = strtok_r(copy, ",", &state); part; part = strtok_r(NULL, ",", &state)) {
        Process *each = &found[*count];
        each->instance = 0xFFFFFFFF;
        if (sscanf(part, "%u:%lld:%u:%u", &each->pid, &each->bytes, &each->sm, &each->instance) >= 3)
            (*count)++;
    }
    return result;
}

#define PROCESSES(function, type, more)                                                    \
    nvmlReturn_t function(nvmlDevice_t device, unsigned int *count, type *infos) {         \
        Process found[32];                                                                 \
        unsigned int many;                                                                 \
        nvmlReturn_t result = processes(device, found, &many);                             \
        if (result != NVML_SUCCESS) return result;                                         \
        if (*count < many) {                                                               \
            *count = many;                                                                 \
            return NVML_ERROR_INSUFFICIENT_SIZE;                                           \
        }                                                                                  \
        *count = many;                                                                     \
        for (unsigned int i = 0; i < many; i++) {                                          \
            infos[i].pid = found[i].pid;                                                   \
            infos[i].usedGpuMemory = (unsigned long long)found[i].bytes;                   \
            more                                                                           \
        }                                                                                  \
        return result;                                                                     \
    }
#define NONE(function, type)                                                               \
    nvmlReturn_t function(nvmlDevice_t device, unsigned int *count, type *infos) {         \
        (void)device, (void)infos;                                                         \
        *count = 0;                                                                        \
        return NVML_SUCCESS;                                                               \
    }
#define INSTANCE infos[i].gpuInstanceId = found[i].instance, infos[i].computeInstanceId = 0xFFFFFFFF;

PROCESSES(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, )
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, INSTANCE)
NONE(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
NONE(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
#ifndef OLD_DRIVER
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, INSTANCE)
NONE(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
NONE(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)
#endif

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                             unsigned int *count, unsigned long long since) {
    Process found[32];
    unsigned int many;
    struct timespec time;
    double ignored;
    nvmlReturn_t result = value_of(device, "process.utilization", &ignored);
    if (result != NVML_SUCCESS && result != NVML_ERROR_NOT_SUPPORTED) return result;
    result = processes(device, found, &many);
    (void)since;
    if (result != NVML_SUCCESS) return result;
    if (many == 0) return NVML_ERROR_NOT_FOUND;
    if (samples == NULL || *count < many) {
        *count = many;
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    clock_gettime(CLOCK_REALTIME, &time);
    *count = many;
    memset(samples, 0, many * sizeof *samples);
    for (unsigned int i = 0; i < many; i++) {
        samples[i].pid = found[i].pid;
        samples[i].smUtil = found[i].sm;
        samples[i].timeStamp = time.tv_sec * 1000000ULL + time.tv_nsec / 1000;
    }
    return result;
}

/* --- MIG --------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    double found;
    nvmlReturn_t result = value_of(device, "mig.mode", &found);
    if (result == NVML_SUCCESS) *current = *pending = (unsigned int)found;
    return result;
}
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig) {
    const char *text;
    if (index >= MIGS) return NVML_ERROR_INVALID_ARGUMENT;
    *mig = &handles[device->gpu][index + 1];
    return text_of(*mig, "uuid", &text) == NVML_SUCCESS ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig) {
    *is_mig = device->mig >= 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    *device = &handles[mig->gpu][0];
    return NVML_SUCCESS;
}
