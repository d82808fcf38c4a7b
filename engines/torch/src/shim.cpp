// What tch does not reach: models of either form, element types, memory, and opening libtorch_cuda. These are the functions
// that Rust calls; every one of them catches every exception at the border and hands back its text.

#include "allocator.h"
#include "border.h"
#include "ear.h"
#include "lane.h"
#include "model.h"

#include <algorithm>

#include <dlfcn.h>

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/CachingHostAllocator.h>
#include <torch/script.h>
#include <torch/version.h>

namespace {

// A loop that depends on its data, so that no optimiser ends it.
constexpr const char* kHang = R"script(
def forward(self, x):
    while bool(x.sum() > 0):
        x = x * 1.0
    return x
)script";

// An index out of bounds is what most often trips an assert on a device; reading the result waits for it. A CPU cannot be
// lost: it can only say so.
void lose(at::Device device) {
  if (device.is_cuda()) {
    const auto out_of_bounds = at::full({1}, 99, at::kLong).to(device);
    at::ones({4}).to(device).index_select(0, out_of_bounds).to(at::kCPU);
  }
  TORCH_CHECK(false, "CUDA error: device-side assert triggered (rehearsed)");
}

// Gives cached memory back: the device's, and what is pinned for it.
void empty_caches() {
  const auto device = at::accelerator::getAccelerator();
  if (!device.has_value()) return;
  at::accelerator::emptyCache();
  at::getHostAllocator(*device)->empty_cache();
}

}  // namespace

extern "C" {

// Golden outputs must hold on a GPU as on a CPU: cuDNN's default of TF32 keeps only ten bits of the mantissa.
void tp_configure() {
  install_allocator();
  install_ear();
  at::globalContext().setAllowTF32CuDNN(false);
}

const char* tp_torch_version() { return TORCH_VERSION; }

// Returns 0 once `library` is in the process for good; else `say` has heard why not.
int tp_open_library(const char* library, Say say, void* context) {
  if (dlopen(library, RTLD_NOW | RTLD_GLOBAL) != nullptr) return 0;
  const char* text = dlerror();
  say(context, text, std::strlen(text));
  return 1;
}

int tp_load(const LoadOptions* options, Progress progress, void* progress_context, Model** model, Say say,
            void* context) {
  return guarded(say, context, [&] {
    const auto load = options->is_package ? load_package : load_script;
    auto loaded = load(*options, progress, progress_context);
    // Its weights may still be on their way, and no lane would wait for them.
    if (options->cuda_index >= 0) at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(options->cuda_index));
    *model = loaded.release();
  });
}

void tp_unload(Model* model) {
  delete model;
  trim_allocator();
  try {
    empty_caches();
  } catch (const std::exception&) {
    // The device is lost, and its memory with it.
  }
}

// `required` becomes the number of arguments, from the front, that have no default.
int tp_arguments(Model* model, Argue argue, void* into, size_t* required, Say say, void* context) {
  return guarded(say, context, [&] { *required = model->arguments(argue, into); });
}

int tp_lane_create(const Model* model, int32_t cuda_index, Lane** lane, Say say, void* context) {
  return guarded(say, context, [&] { *lane = new Lane(device_of(cuda_index), model->forks()); });
}

void tp_lane_destroy(Lane* lane) { delete lane; }

// Uninitialised host memory for `scalar_type`, c10's number: tch knows only some of them. Without a lane, no device reads it.
int tp_empty(const Lane* lane, int32_t scalar_type, const int64_t* shape, size_t rank, at::Tensor** tensor, Say say,
             void* context) {
  return guarded(say, context, [&] {
    const auto type = static_cast<at::ScalarType>(scalar_type);
    const at::IntArrayRef sizes(shape, rank);
    const auto options = at::TensorOptions(at::kCPU).dtype(type);
    *tensor = new at::Tensor(lane != nullptr ? lane->empty(type, sizes) : at::empty(sizes, options));
  });
}

// What the allocator holds of a CUDA device. A CPU has no such count.
int tp_statistics(int32_t cuda_index, uint64_t* allocated, uint64_t* reserved, Say say, void* context) {
  return guarded(say, context, [&] {
    if (cuda_index < 0 || !at::accelerator::getAccelerator().has_value()) return;
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto statistics = at::accelerator::getDeviceStats(static_cast<c10::DeviceIndex>(cuda_index));
    *allocated = static_cast<uint64_t>(statistics.allocated_bytes[all].current);
    *reserved = static_cast<uint64_t>(statistics.reserved_bytes[all].current);
  });
}

// Gives cached memory back to the device, so that what comes after an error for want of memory has all there is.
int tp_empty_cache(Say say, void* context) {
  return guarded(say, context, [] { empty_caches(); });
}

int tp_forward(Model* model, const Lane* lane, const Input* inputs, size_t count, Emit emit, void* outputs, Say say,
               void* context) {
  return guarded(say, context, [&] { lane->run([&] { model->forward(inputs, count, emit, outputs); }); });
}

// Gives a tensor another shape where that fits into what it holds, and nobody else holds it or a view of it. A model may have
// done anything to it. It does not hold on to much more than is needed.
bool tp_reshape(const at::Tensor* tensor, int32_t scalar_type, const int64_t* shape, size_t rank) {
  constexpr size_t kLittle = 1 << 20;
  constexpr size_t kMuch = 4;
  try {
    const auto& storage = tensor->storage();
    if (tensor->use_count() > 1 || storage.use_count() > 1 || tensor->storage_offset() != 0) return false;
    if (!tensor->is_cpu() || tensor->scalar_type() != static_cast<at::ScalarType>(scalar_type)) return false;
    const at::IntArrayRef sizes(shape, rank);
    const auto bytes = static_cast<size_t>(c10::multiply_integers(sizes)) * tensor->element_size();
    if (bytes > storage.nbytes() || storage.nbytes() > std::max(kLittle, kMuch * bytes)) return false;
    tensor->unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
    return true;
  } catch (...) {  // It has no storage any more, say.
    return false;
  }
}

int tp_rehearse(int32_t cuda_index, bool hang, Say say, void* context) {
  return guarded(say, context, [&] {
    const c10::InferenceMode guard;
    const auto device = device_of(cuda_index);
    if (!hang) lose(device);
    torch::jit::Module module("rehearsal");
    module.define(kHang);
    std::vector<c10::IValue> inputs{at::ones({1}).to(device)};
    module.forward(std::move(inputs));
  });
}

}  // extern "C"
