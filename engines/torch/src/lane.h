// Where the batches of one instance are copied and computed.

#pragma once

#include "border.h"

#include <optional>

#include <c10/core/StreamGuard.h>

// On a CUDA device, a stream of its own: batches of other instances go on beside it, so that one is copied while another is
// computed. A model that forks has the device's default stream, the only one that libtorch's own threads know. On a CPU,
// none. It is c10's general stream, not CUDA's own, which the library for hosts without a GPU does not have.
class Lane {
 public:
  Lane(at::Device device, bool forks);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Uninitialised host memory, pinned where there is a device.
  at::Tensor empty(at::ScalarType type, at::IntArrayRef shape) const;

  // Calls `body` and waits once for all that it has started. It waits after an error, too: the batch's memory is written
  // anew as soon as this returns. What the device tells only now is worse than any other error, and is the one that is
  // thrown.
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
  bool is_own_ = false;
};

// The tensor on the device, and itself where it is there already: asking libtorch for nothing costs a third of a
// microsecond. The copy from a lane's memory has only begun.
inline at::Tensor on_device(const at::Tensor& tensor, at::Device device) {
  return tensor.device() == device ? tensor : tensor.to(device, tensor.scalar_type(), /*non_blocking=*/true);
}

// The tensor's elements in host memory, contiguous. The copy from the lane's device has only begun: `Lane::run` waits for it.
at::Tensor in_host_memory(const at::Tensor& tensor);
