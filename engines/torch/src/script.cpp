// TorchScript: an archive is read with progress, brought into the form that computes best, and called.

#include "lane.h"
#include "model.h"
#include "value.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <caffe2/serialize/file_adapter.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/passes/inliner.h>
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

// How a script computes, where the model is not to choose.
struct Form {
  std::optional<at::ScalarType> precision;
  bool channels_last = false;

  bool is_own() const { return !precision.has_value() && !channels_last; }

  // Only floating-point numbers have a precision, and only images have channels.
  at::Tensor of(at::Tensor tensor) const {
    if (precision && tensor.is_floating_point()) tensor = tensor.to(*precision);
    if (channels_last && tensor.dim() == 4) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
    return tensor;
  }
};

// Brings the weights into the form: parameters and buffers, and what freezing has made constants of.
void convert(torch::jit::Block* block, const Form& form) {
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) convert(inner, form);
    if (node->kind() != c10::prim::Constant || !node->hasAttribute(c10::attr::value)) continue;
    if (node->kindOf(c10::attr::value) != torch::jit::AttributeKind::t) continue;
    const auto converted = form.of(node->t(c10::attr::value));
    node->t_(c10::attr::value, converted);
    node->output()->inferTypeFrom(converted);
  }
}

void convert(torch::jit::Module& module, const Form& form) {
  for (auto tensor : module.parameters()) tensor.set_data(form.of(tensor));
  for (auto tensor : module.buffers()) tensor.set_data(form.of(tensor));
  for (const auto& part : module.modules())
    for (const auto& method : part.get_methods()) convert(method.graph()->block(), form);
}

class Script final : public Model {
 public:
  Script(torch::jit::Module module, Form form, at::Device device)
      : module_(std::move(module)),
        forward_(module_.get_method("forward")),
        takes_tensors_(takes_tensors(schema().arguments())),
        form_(form),
        device_(device) {}

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

  bool forks() const override {
    const auto does = [](torch::jit::Graph& graph) {
      return !torch::jit::findAllNodes(graph, c10::prim::fork, /*recurse=*/true).empty();
    };
    // Functions are seen only where they are inlined, and what is called through an interface is not.
    const auto inlined = forward_.graph()->copy();
    torch::jit::Inline(*inlined);
    if (does(*inlined)) return true;
    for (const auto& part : module_.modules())
      for (const auto& method : part.get_methods())
        if (does(*method.graph())) return true;
    return false;
  }

  void forward(const Input* inputs, size_t count, Emit emit, void* outputs) override {
    const c10::InferenceMode guard;
    std::vector<c10::IValue> stack;
    stack.reserve(count + 1);
    stack.emplace_back(module_._ivalue());
    for (size_t i = 0; i < count; ++i) stack.push_back(argument(inputs[i], i + 1));
    const auto value = call(std::move(stack));
    emit_value(form_.precision ? restored(value) : value, "output", emit, outputs);
  }

 private:
  static bool takes_tensors(const std::vector<c10::Argument>& arguments) {
    const auto is_tensor = [](const c10::Argument& argument) { return kind_of(*argument.type()) == 1; };
    return std::all_of(arguments.begin() + 1, arguments.end(), is_tensor);  // 0 is self
  }

  // Not the method, which makes a module anew for each call. Tensors for all that takes tensors need no look at each.
  c10::IValue call(std::vector<c10::IValue> stack) const {
    auto& function = forward_.function();
    if (!takes_tensors_ || stack.size() != schema().arguments().size()) return function(std::move(stack));
    function.run(stack);
    return std::move(stack.front());
  }

  const c10::FunctionSchema& schema() const { return forward_.function().getSchema(); }

  c10::IValue argument(const Input& input, size_t index) const {
    if (input.shape == nullptr) return form_.of(on_device(*input.tensor, device_));
    const auto& arguments = schema().arguments();
    TORCH_CHECK(index < arguments.size(), "forward takes fewer arguments");
    return texts_of(input, *arguments[index].type());
  }

  // Clients know nothing of the precision: its numbers are FP32 for them, as they were before.
  c10::IValue restored(const c10::IValue& value) const {
    if (value.isTensor()) {
      const auto& tensor = value.toTensor();
      return tensor.scalar_type() == *form_.precision ? tensor.to(at::kFloat) : tensor;
    }
    if (value.isTuple()) {
      std::vector<c10::IValue> elements;
      for (const auto& element : value.toTupleRef().elements()) elements.push_back(restored(element));
      return c10::ivalue::Tuple::create(std::move(elements));
    }
    if (value.isTensorList()) {
      c10::List<at::Tensor> tensors;
      for (const at::Tensor& tensor : value.toTensorVector()) tensors.push_back(restored(tensor).toTensor());
      return tensors;
    }
    if (value.isGenericDict()) {
      const auto dict = value.toGenericDict();
      c10::impl::GenericDict made(dict.keyType(), dict.valueType());
      for (const auto& entry : dict) made.insert(entry.key(), restored(entry.value()));
      return made;
    }
    return value;
  }

  torch::jit::Module module_;
  torch::jit::Method forward_;
  bool takes_tensors_;
  Form form_;
  at::Device device_;
};

}  // namespace

std::unique_ptr<Model> load_script(const LoadOptions& options, Progress progress, void* context) {
  auto reader = std::make_shared<CountingReader>(options.path, progress, context);
  // Of parameters that are read in this mode, forwards make views that keep no track of what they are views of.
  const c10::InferenceMode guard;
  auto module = torch::jit::load(std::move(reader), device_of(options.cuda_index));
  module.eval();
  Form form{std::nullopt, options.channels_last};
  if (options.precision >= 0) form.precision = static_cast<at::ScalarType>(options.precision);
  if (!form.is_own()) convert(module, form);
  return std::make_unique<Script>(std::move(module), form, device_of(options.cuda_index));
}
