// TorchScript: an archive is read with progress, brought into the form that computes best, and called.

#include "model.h"
#include "value.h"

#include <algorithm>
#include <vector>

#include <caffe2/serialize/file_adapter.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/script.h>

namespace {

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

class Script final : public Model {
 public:
  Script(torch::jit::Module module, const LoadOptions& options)
      : module_(std::move(module)), device_(device_of(options.cuda_index)) {}

  size_t arguments(Argue argue, void* into) const override {
    const auto& arguments = schema().arguments();
    size_t required = 0;
    for (size_t i = 1; i < arguments.size(); ++i) {  // 0 is self
      const auto& name = arguments[i].name();
      argue(into, name.data(), name.size(), kind_of(*arguments[i].type()));
      if (!arguments[i].default_value()) required = i;
    }
    return required;
  }

  void forward(const Input* inputs, size_t count, Emit emit, void* outputs) override {
    const c10::InferenceMode guard;
    std::vector<c10::IValue> stack;
    stack.reserve(count + 1);  // And self, which the call puts in front.
    for (size_t i = 0; i < count; ++i) stack.push_back(argument(inputs[i], i + 1));
    emit_value(module_.forward(std::move(stack)), "output", emit, outputs);
  }

 private:
  const c10::FunctionSchema& schema() const { return module_.get_method("forward").function().getSchema(); }

  c10::IValue argument(const Input& input, size_t index) const {
    if (input.shape == nullptr) return input.tensor->to(device_);
    const auto& arguments = schema().arguments();
    TORCH_CHECK(index < arguments.size(), "forward takes fewer arguments");
    return texts_of(input, *arguments[index].type());
  }

  torch::jit::Module module_;
  at::Device device_;
};

}  // namespace

std::unique_ptr<Model> load_script(const LoadOptions& options, Progress progress, void* context) {
  auto reader = std::make_shared<CountingReader>(options.path, progress, context);
  auto module = torch::jit::load(std::move(reader), device_of(options.cuda_index));
  module.eval();
  return std::make_unique<Script>(std::move(module), options);
}
