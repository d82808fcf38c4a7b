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
// An input. Where `shape` is not null, `tensor` holds texts of that shape in their binary form.
struct Input {
  at::Tensor* tensor;
  const int64_t* shape;
  size_t rank;
};
// An output, whose tensor is given away; `scalar_type` is c10's number, or -1 for texts in their binary form.
struct Output {
  at::Tensor* tensor;
  int32_t scalar_type;
  const int64_t* shape;
  size_t rank;
  size_t bytes;
};
using Emit = void (*)(void* context, const char* name, size_t len, const Output* output);
using Argue = void (*)(void* context, const char* name, size_t len, uint32_t kind);
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

// How many lists there are around texts: 1 for List[str], 2 for List[List[str]]; 0 for every other type.
uint32_t text_depth(const c10::Type& type) {
  const auto* inner = &type;
  uint32_t depth = 0;
  for (; inner->kind() == c10::TypeKind::ListType && depth < 2; ++depth)
    inner = inner->expectRef<c10::ListType>().getElementType().get();
  return inner->kind() == c10::TypeKind::StringType ? depth : 0;
}

// What the ABI calls an argument of this type: 1 for a tensor, 2 for a list of texts, 3 for a list of such lists.
uint32_t kind_of(const c10::Type& type) {
  if (const auto* optional = type.castRaw<c10::OptionalType>()) return kind_of(*optional->getElementType());
  if (type.kind() == c10::TypeKind::TensorType) return 1;
  const auto depth = text_depth(type);
  return depth == 0 ? 0 : depth + 1;
}

// Reads texts in their binary form, one after the other: a length of four little-endian bytes, and that many bytes.
class TextReader {
 public:
  explicit TextReader(const at::Tensor& bytes)
      : at_(bytes.const_data_ptr<uint8_t>()), end_(at_ + bytes.numel()) {}

  c10::List<std::string> read(int64_t count) {
    c10::List<std::string> texts;
    texts.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) texts.push_back(one());
    return texts;
  }

 private:
  std::string one() {
    uint32_t length = 0;
    TORCH_CHECK(end_ - at_ >= 4, "texts end too early");
    std::memcpy(&length, at_, 4);  // Whatever runs libtorch is little-endian.
    at_ += 4;
    TORCH_CHECK(static_cast<size_t>(end_ - at_) >= length, "a text ends too early");
    std::string text(reinterpret_cast<const char*>(at_), length);
    at_ += length;
    return text;
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

// Texts as the argument takes them: a list with one a row, or a list of lists.
c10::IValue texts_of(const Input& input, const c10::Type& type) {
  TextReader reader(*input.tensor);
  const auto rows = input.rank > 0 ? input.shape[0] : 1;
  const auto width = input.rank > 1 ? input.shape[1] : 1;
  TORCH_CHECK(input.rank <= 2, "texts of more than two dimensions");
  if (kind_of(type) == 2) {
    TORCH_CHECK(width == 1, "forward takes one text a row, not ", width);
    return reader.read(rows);
  }
  TORCH_CHECK(kind_of(type) == 3, "forward takes ", type.str(), ", not texts");
  c10::List<c10::List<std::string>> lists;
  lists.reserve(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) lists.push_back(reader.read(width));
  return lists;
}

size_t encoded_size(const std::string& text, const std::string& name) {
  if (text.size() > UINT32_MAX) throw Unfit("output " + name + " has a text of four GiB or more");
  return 4 + text.size();
}

// List[str] is of shape [rows], and List[List[str]], whose lists must be of one length, of [rows, length].
void emit_texts(const c10::IValue& value, const std::string& name, Emit emit, void* context) {
  const auto is_flat = text_depth(*value.type()) == 1;
  const auto outer = value.toListRef();
  std::vector<int64_t> shape{static_cast<int64_t>(outer.size())};
  if (!is_flat) shape.push_back(outer.empty() ? 0 : static_cast<int64_t>(outer[0].toListRef().size()));
  std::vector<const std::string*> texts;
  for (const auto& row : outer) {
    if (is_flat) {
      texts.push_back(&row.toStringRef());
      continue;
    }
    const auto inner = row.toListRef();
    if (static_cast<int64_t>(inner.size()) != shape[1])
      throw Unfit("output " + name + " has rows of " + std::to_string(shape[1]) + " and of " + std::to_string(inner.size()) +
                  " texts: expected as many in each");
    for (const auto& text : inner) texts.push_back(&text.toStringRef());
  }
  size_t bytes = 0;
  for (const auto* text : texts) bytes += encoded_size(*text, name);
  auto encoded = at::empty({static_cast<int64_t>(bytes)}, at::TensorOptions(at::kCPU).dtype(at::kByte));
  auto* at = encoded.mutable_data_ptr<uint8_t>();
  for (const auto* text : texts) {
    const auto length = static_cast<uint32_t>(text->size());
    std::memcpy(at, &length, 4);
    std::memcpy(at + 4, text->data(), length);
    at += 4 + length;
  }
  const Output output{new at::Tensor(std::move(encoded)), -1, shape.data(), shape.size(), bytes};
  emit(context, name.data(), name.size(), &output);
}

void emit_tensor(const at::Tensor& tensor, const std::string& name, Emit emit, void* context) {
  if (tensor.layout() != at::kStrided || tensor.is_complex() || tensor.is_quantized()) {
    const auto type = std::string(tensor.layout() == at::kStrided ? "of type " : "sparse, of type ");
    throw Unfit("output " + name + " is " + type + toString(tensor.scalar_type()) +
                "; dense tensors of booleans, integers and floats can be served");
  }
  auto host = tensor.to(at::kCPU).contiguous();
  const auto shape = host.sizes().vec();
  const auto scalar_type = static_cast<int32_t>(host.scalar_type());
  const auto bytes = host.nbytes();
  const Output output{new at::Tensor(std::move(host)), scalar_type, shape.data(), shape.size(), bytes};
  emit(context, name.data(), name.size(), &output);
}

// A tensor is `output`; elements of a tuple or list are `output_0`, `output_1`, …; those of a dict carry their keys.
void emit_value(const c10::IValue& value, const std::string& name, Emit emit, void* context) {
  if (value.isTensor()) {
    emit_tensor(value.toTensor(), name, emit, context);
  } else if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    for (size_t i = 0; i < elements.size(); ++i)
      emit_value(elements[i], name + "_" + std::to_string(i), emit, context);
  } else if (text_depth(*value.type()) > 0) {
    emit_texts(value, name, emit, context);
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
    throw Unfit("the model returns a value of type " + value.type()->str() + "; tensors, lists of texts, and tuples, lists and dicts of these can be served");
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
int tp_arguments(torch::jit::Module* module, Argue argue, void* into, size_t* required, Say say, void* context) {
  return guarded(say, context, [&] {
    const auto& schema = module->get_method("forward").function().getSchema();
    const auto& arguments = schema.arguments();
    *required = 0;
    for (size_t i = 1; i < arguments.size(); ++i) {  // 0 is self
      const auto& name = arguments[i].name();
      argue(into, name.data(), name.size(), kind_of(*arguments[i].type()));
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

int tp_forward(torch::jit::Module* module, int32_t cuda_index, const Input* inputs, size_t count, Emit emit,
               void* outputs, Say say, void* context) {
  return guarded(say, context, [&] {
    const c10::InferenceMode guard;
    const auto device = device_of(cuda_index);
    std::vector<c10::IValue> stack;
    stack.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      if (inputs[i].shape == nullptr) {
        stack.emplace_back(inputs[i].tensor->to(device));
        continue;
      }
      const auto& arguments = module->get_method("forward").function().getSchema().arguments();
      TORCH_CHECK(i + 1 < arguments.size(), "forward takes fewer arguments");  // 0 is self
      stack.push_back(texts_of(inputs[i], *arguments[i + 1].type()));
    }
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
