// What every part of the shim shares: the C types of the border to Rust, and the guard that no exception passes.

#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <stdexcept>

#include <ATen/Tensor.h>
#include <c10/util/Exception.h>

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

inline at::Device device_of(int32_t cuda_index) {
  return cuda_index < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_index));
}
