#include "lane.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

at::TensorOptions host_memory(at::ScalarType type, bool for_device) {
  return at::TensorOptions(at::kCPU).dtype(type).pinned_memory(for_device);
}

}  // namespace

Lane::Lane(at::Device device, bool forks) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl streams(device.type());
  stream_ = forks ? streams.getDefaultStream(device) : streams.getStreamFromGlobalPool(device);
}

at::Tensor Lane::empty(at::ScalarType type, at::IntArrayRef shape) const {
  return at::empty(shape, host_memory(type, stream_.has_value()));
}

at::Tensor in_host_memory(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor.contiguous();
  auto host = at::empty(tensor.sizes(), host_memory(tensor.scalar_type(), tensor.is_cuda()));
  return host.copy_(tensor, /*non_blocking=*/true);
}
