// Where the batches of one instance are copied and computed.

#pragma once

#include "border.h"

#include <optional>

#include <c10/core/StreamGuard.h>

// On a CUDA device, a stream: batches of other instances go on beside it, so that one is copied while another is computed.
// It is the device's first stream, which all threads use that were told of no other, for a model that forks. On a CPU, none. It is c10's general stream, not CUDA's own, which the library for hosts without a GPU does not have.
class Lane {
 public:
  Lane(at::Device device, bool forks);

  // Host memory that the device reaches by itself where there is one: only from there does a copy not wait.
  at::Tensor empty(at::ScalarType type, at::IntArrayRef shape) const;

  // Calls `body` and waits once for all that it has started. It waits after an error, too: the batch's memory is written
  // anew as soon as this returns. An error of the device, which is told only now, is worse than any other and is the one
  // that is thrown.
  template <typename Body>
  void run(Body body) const {
    if (!stream_) return body();
    const c10::StreamGuard guard(*stream_);
    try {
      body();
    } catch (...) {
      stream_->synchronize();
      throw;
    }
    stream_->synchronize();
  }

 private:
  std::optional<c10::Stream> stream_;
};

// The tensor on the device, and itself where it is there already: asking libtorch for nothing costs a third of a
// microsecond. The copy from a lane's memory has only begun.
inline at::Tensor on_device(const at::Tensor& tensor, at::Device device) {
  return tensor.device() == device ? tensor : tensor.to(device, tensor.scalar_type(), /*non_blocking=*/true);
}

// The tensor's elements in host memory, contiguous. A copy from a device has only begun: `Lane::run` waits for it.
at::Tensor in_host_memory(const at::Tensor& tensor);
