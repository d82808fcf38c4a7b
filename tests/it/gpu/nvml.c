// NVIDIA's management library as a machine with three GPUs has it, for machines that have none: what of its published
// interface torchpod calls. The third GPU is shared out in slices, and does not know its load. Where the file that
// NVML_HANGS names is there, a question never comes back.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3 };
typedef struct { unsigned number; } device;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
typedef struct { unsigned gpu, memory; } utilization;

static device devices[] = {{0}, {1}, {2}};

int nvmlInit_v2(void) {
  const char *opened = getenv("NVML_OPENED");
  if (opened != NULL) fclose(fopen(opened, "w"));
  return OK;
}

int nvmlShutdown(void) { return OK; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
  snprintf(text, length, "580.65.06");
  return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = 3;
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) {
  if (index > 2) return INVALID;
  *found = &devices[index];
  return OK;
}

int nvmlDeviceGetUUID(device *of, char *text, unsigned length) {
  snprintf(text, length, "GPU-%u1111111-2222-3333-4444-555555555555", of->number);
  return OK;
}

int nvmlDeviceGetName(device *of, char *text, unsigned length) {
  snprintf(text, length, "NVIDIA H100 %u", of->number);
  return OK;
}

int nvmlDeviceGetMemoryInfo_v2(device *of, memory *said) {
  said->total = 80ULL << 30;
  said->used = (unsigned long long)(of->number + 1) << 30;
  said->free = said->total - said->used;
  return OK;
}

int nvmlDeviceGetUtilizationRates(device *of, utilization *said) {
  const char *hangs = getenv("NVML_HANGS");
  while (hangs != NULL && access(hangs, F_OK) == 0) sleep(3600);
  if (of->number == 2) return NOT_SUPPORTED;
  said->gpu = 25 * (of->number + 1);
  said->memory = 10;
  return OK;
}

int nvmlDeviceGetTemperature(device *of, int sensor, unsigned *said) {
  if (sensor != 0) return INVALID;
  *said = 40 + of->number;
  return OK;
}

int nvmlDeviceGetPowerUsage(device *of, unsigned *milliwatts) {
  *milliwatts = 123500 + 1000 * of->number;
  return OK;
}
