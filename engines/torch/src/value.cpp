#include "value.h"

#include "lane.h"

#include <vector>

#include <ATen/ATen.h>

namespace {

// How many lists there are around texts: 1 for List[str], 2 for List[List[str]]; 0 for every other type.
uint32_t text_depth(const c10::Type& type) {
  const auto* inner = &type;
  uint32_t depth = 0;
  for (; inner->kind() == c10::TypeKind::ListType && depth < 2; ++depth)
    inner = inner->expectRef<c10::ListType>().getElementType().get();
  return inner->kind() == c10::TypeKind::StringType ? depth : 0;
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

}  // namespace

uint32_t kind_of(const c10::Type& type) {
  if (const auto* optional = type.castRaw<c10::OptionalType>()) return kind_of(*optional->getElementType());
  if (type.kind() == c10::TypeKind::TensorType) return 1;
  const auto depth = text_depth(type);
  return depth == 0 ? 0 : depth + 1;
}

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

void emit_tensor(const at::Tensor& tensor, const std::string& name, Emit emit, void* context) {
  if (tensor.layout() != at::kStrided || tensor.is_complex() || tensor.is_quantized()) {
    const auto type = std::string(tensor.layout() == at::kStrided ? "of type " : "sparse, of type ");
    throw Unfit("output " + name + " is " + type + toString(tensor.scalar_type()) +
                "; dense tensors of booleans, integers and floats can be served");
  }
  const auto host = in_host_memory(tensor);
  const auto shape = host.sizes();
  const Output output{new at::Tensor(host), static_cast<int32_t>(host.scalar_type()), shape.data(), shape.size(),
                      host.nbytes()};
  emit(context, name.data(), name.size(), &output);
}

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
