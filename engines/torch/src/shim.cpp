// What tch does not reach: loading with progress, inference mode, element types and outputs of any form, memory, and
// opening libtorch_cuda.
// Every function catches every exception at the border and hands back its text.

#include "allocator.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <caffe2/serialize/file_adapter.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <torch/script.h>
#include <torch/version.h>

namespace {

using Progress = uint32_t (*)(void* context, uint64_t read, uint64_t total);
// Takes over the tensor; `scalar_type` is c10's number.
using Emit = void (*)(void* context, const char* name, size_t len, at::Tensor* tensor, int32_t scalar_type, size_t bytes);
using Say = void (*)(void* context, const char* text, size_t len);

struct Cancelled : std::exception {
  const char* what() const noexcept override { return "cancelled"; }
};

// What the model returns cannot be served; the text is for anybody.
struct Unfit : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs `body`; on an exception tells `say` its text and returns 1, or 2 where the progress callback gave up, or 3 where
// the model's outputs cannot be served.
template <typename Body>
int guarded(Say say, void* context, Body body) {
  const auto tell = [&](const char* text) { say(context, text, std::strlen(text)); };
  try {
    body();
    return 0;
  } catch (const Cancelled& error) {
    tell(error.what());
    return 2;
  } catch (const Unfit& error) {
    tell(error.what());
    return 3;
  } catch (const c10::Error& error) {
    tell(error.what_without_backtrace());
  } catch (const std::exception& error) {
    tell(error.what());
  } catch (...) {
    tell("an exception of unknown type");
  }
  return 1;
}

class CountingReader final : public caffe2::serialize::ReadAdapterInterface {
 public:
  CountingReader(const std::string& path, Progress progress, void* context)
      : file_(path), progress_(progress), context_(context) {}

  size_t size() const override { return file_.size(); }

  size_t read(uint64_t pos, void* buf, size_t n, const char* what) const override {
    const size_t got = file_.read(pos, buf, n, what);
    // The archive's directory is read twice, so the sum may pass the file's size.
    read_ = std::min<uint64_t>(read_ + got, file_.size());
    if (progress_(context_, read_, file_.size()) == 0) throw Cancelled();
    return got;
  }

 private:
  caffe2::serialize::FileAdapter file_;
  Progress progress_;
  void* context_;
  mutable uint64_t read_ = 0;
};

void emit_tensor(const at::Tensor& tensor, const std::string& name, Emit emit, void* context) {
  if (tensor.layout() != at::kStrided || tensor.is_complex() || tensor.is_quantized()) {
    const auto type = std::string(tensor.layout() == at::kStrided ? "of type " : "sparse, of type ");
    throw Unfit("output " + name + " is " + type + toString(tensor.scalar_type()) +
                "; dense tensors of booleans, integers and floats can be served");
  }
  auto host = tensor.to(at::kCPU).contiguous();
  const auto scalar_type = static_cast<int32_t>(host.scalar_type());
  const auto bytes = host.nbytes();
  emit(context, name.data(), name.size(), new at::Tensor(std::move(host)), scalar_type, bytes);
}

// A tensor is `output`; elements of a tuple or list are `output_0`, `output_1`, …; those of a dict carry their keys.
void emit_value(const c10::IValue& value, const std::string& name, Emit emit, void* context) {
  if (value.isTensor()) {
    emit_tensor(value.toTensor(), name, emit, context);
  } else if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    for (size_t i = 0; i < elements.size(); ++i)
      emit_value(elements[i], name + "_" + std::to_string(i), emit, context);
  } else if (value.isTensorList() || value.isList()) {
    const auto elements = value.toListRef();
    for (size_t i = 0; i < elements.size(); ++i)
      emit_value(elements[i], name + "_" + std::to_string(i), emit, context);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) {
      const auto key = entry.key().isString() ? entry.key().toStringRef() : name + "_" + std::to_string(entry.key().toInt());
      emit_value(entry.value(), key, emit, context);
    }
  } else {
    throw Unfit("the model returns a value of type " + value.type()->str() + "; tensors, tuples, lists and dicts of tensors can be served");
  }
}

// A loop that depends on its data, so that no optimiser ends it.
constexpr const char* kHang = R"script(
def forward(self, x):
    while bool(x.sum() > 0):
        x = x * 1.0
    return x
)script";

at::Device device_of(int32_t cuda_index) {
  return cuda_index < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_index));
}

// An index out of bounds is what most often trips an assert on a device; reading the result waits for it. A CPU cannot be
// lost: it can only say so.
void lose(at::Device device) {
  if (device.is_cuda()) {
    const auto out_of_bounds = at::full({1}, 99, at::kLong).to(device);
    at::ones({4}).to(device).index_select(0, out_of_bounds).to(at::kCPU);
  }
  TORCH_CHECK(false, "CUDA error: device-side assert triggered (rehearsed)");
}

}  // namespace

extern "C" {

// Golden outputs must hold on a GPU as on a CPU: cuDNN's default of TF32 keeps only ten bits of the mantissa.
void tp_configure() {
  install_allocator();
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

int tp_load(const char* path, int32_t cuda_index, Progress progress, void* progress_context,
            torch::jit::Module** module, Say say, void* context) {
  return guarded(say, context, [&] {
    auto reader = std::make_shared<CountingReader>(path, progress, progress_context);
    auto loaded = torch::jit::load(std::move(reader), device_of(cuda_index));
    loaded.eval();
    *module = new torch::jit::Module(std::move(loaded));
  });
}

void tp_unload(torch::jit::Module* module) {
  delete module;
  trim_allocator();
}

// `required` becomes the number of arguments, from the front, that have no default.
int tp_arguments(torch::jit::Module* module, Say name, void* names, size_t* required, Say say, void* context) {
  return guarded(say, context, [&] {
    const auto& schema = module->get_method("forward").function().getSchema();
    const auto& arguments = schema.arguments();
    *required = 0;
    for (size_t i = 1; i < arguments.size(); ++i) {  // 0 is self
      name(names, arguments[i].name().data(), arguments[i].name().size());
      if (!arguments[i].default_value()) *required = i;
    }
  });
}

// Uninitialised host memory for `scalar_type`, c10's number: tch knows only some of them.
int tp_empty(int32_t scalar_type, const int64_t* shape, size_t rank, at::Tensor** tensor, Say say, void* context) {
  return guarded(say, context, [&] {
    const auto type = static_cast<at::ScalarType>(scalar_type);
    *tensor = new at::Tensor(at::empty(at::IntArrayRef(shape, rank), at::TensorOptions(at::kCPU).dtype(type)));
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
  return guarded(say, context, [&] {
    if (at::accelerator::getAccelerator().has_value()) at::accelerator::emptyCache();
  });
}

int tp_forward(torch::jit::Module* module, int32_t cuda_index, at::Tensor* const* inputs, size_t count, Emit emit,
               void* outputs, Say say, void* context) {
  return guarded(say, context, [&] {
    const c10::InferenceMode guard;
    const auto device = device_of(cuda_index);
    std::vector<c10::IValue> stack;
    stack.reserve(count);
    for (size_t i = 0; i < count; ++i) stack.emplace_back(inputs[i]->to(device));
    emit_value(module->forward(std::move(stack)), "output", emit, outputs);
  });
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
