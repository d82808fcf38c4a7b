#include "lane.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

using Streams = c10::impl::VirtualGuardImpl;

// Streams that no lane has any more. What the allocator keeps for the next batch it keeps for a stream, and libtorch hands
// out 32 of them in turn: a new one for every model that is loaded would leave behind what the last one's held.
class Idle {
 public:
  c10::Stream take(at::Device device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto on_it = [&](const c10::Stream& stream) { return stream.device() == device; };
    const auto found = std::find_if(streams_.begin(), streams_.end(), on_it);
    if (found == streams_.end()) return Streams(device.type()).getStreamFromGlobalPool(device);
    const auto stream = *found;
    streams_.erase(found);
    return stream;
  }

  void give(c10::Stream stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.push_back(stream);
  }

 private:
  std::mutex mutex_;
  std::vector<c10::Stream> streams_;
};

// Never destroyed: the process ends beside workers that are still computing.
Idle& idle() {
  static auto& idle = *new Idle;
  return idle;
}

// Pinned memory, or other where none is to be had: a copy from there waits.
//
// It starts behind the start of libtorch's block. libtorch would look the start up at every copy, note the stream that uses
// it, and ask the device at its end whether it still does. A lane knows by itself, and a device that is lost answers by an
// exception, which ends the process where memory is being freed.
at::Tensor pinned(at::ScalarType type, at::IntArrayRef shape) {
  constexpr int64_t kStart = 64;  // As aligned as libtorch's own.
  const auto options = at::TensorOptions(at::kCPU).dtype(type);
  const auto bytes = c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(type));
  at::Tensor block;
  try {
    block = at::empty({kStart + bytes}, at::TensorOptions(at::kCPU).dtype(at::kByte).pinned_memory(true));
  } catch (const c10::Error&) {
    return at::empty(shape, options);
  }
  auto* const start = block.mutable_data_ptr<uint8_t>() + kStart;
  return at::from_blob(start, shape, [block](void*) {}, options);
}

}  // namespace

Lane::Lane(at::Device device, bool forks) {
  if (device.is_cpu()) return;
  is_own_ = !forks;
  stream_ = forks ? Streams(device.type()).getDefaultStream(device) : idle().take(device);
}

Lane::~Lane() {
  if (is_own_) idle().give(*stream_);
}

at::Tensor Lane::empty(at::ScalarType type, at::IntArrayRef shape) const {
  return stream_ ? pinned(type, shape) : at::empty(shape, at::TensorOptions(at::kCPU).dtype(type));
}

at::Tensor in_host_memory(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor.contiguous();
  // A model may leave its output elsewhere than on the lane's device: nobody waits there.
  if (!tensor.is_cuda() || tensor.device() != Streams(at::kCUDA).getDevice()) return tensor.to(at::kCPU).contiguous();
  // A copy would change the sign of a negated view's elements here, when they have not come yet.
  return pinned(tensor.scalar_type(), tensor.sizes()).copy_(tensor.resolve_neg(), /*non_blocking=*/true);
}
