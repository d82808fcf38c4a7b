// A CUDA device for machines that have none, in the place of libtorch's own library for such devices: its memory, its
// streams and its copies, over memory of the host. What operators compute, the CPU computes. A stream is a thread that does
// what is put into it, in order, while whoever put it there goes on.
//
// FAKE_CUDA names a folder. Its file `log` gets a line for whatever happens on a stream other than the first. Copies to the
// device wait there while its file `held` is there. From the first wait on during which its file `lost` is there, the device
// is lost.
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

const c10::Device kDevice(c10::kCUDA, 0);

// The path of a file in the folder, or nothing where there is no folder.
std::string path(const char* file) {
  static const char* const folder = std::getenv("FAKE_CUDA");
  return folder == nullptr ? "" : std::string(folder) + "/" + file;
}

bool is_there(const char* file) { return access(path(file).c_str(), F_OK) == 0; }

void log(const char* what, c10::StreamId stream) {
  static std::mutex mutex;
  if (path("log").empty() || stream == 0) return;
  const std::lock_guard<std::mutex> lock(mutex);
  FILE* const file = std::fopen(path("log").c_str(), "a");
  std::fprintf(file, "%s %ld\n", what, static_cast<long>(stream));
  std::fclose(file);
}

std::atomic<bool> is_lost{false};

void check() { TORCH_CHECK(!is_lost, "CUDA error: device-side assert triggered"); }

class Queue {
 public:
  Queue() { std::thread([this] { work(); }).detach(); }

  void put(std::function<void()> job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
    changed_.notify_all();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return jobs_.empty(); });
  }

 private:
  [[noreturn]] void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !jobs_.empty(); });
      auto& job = jobs_.front();
      lock.unlock();
      job();
      job = nullptr;  // Whatever it held is free before anybody hears that it is done.
      lock.lock();
      jobs_.pop_front();
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
};

// They live as long as the process, as CUDA's do.
Queue& queue(c10::StreamId stream) {
  static std::mutex mutex;
  static auto& queues = *new std::map<c10::StreamId, Queue>;
  const std::lock_guard<std::mutex> lock(mutex);
  return queues[stream];
}

thread_local c10::StreamId current = 0;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override { return stream(current); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override {
    static std::atomic<c10::StreamId> last{0};
    return stream(++last);
  }
  c10::Stream exchangeStream(c10::Stream next) const override { return stream(std::exchange(current, next.id())); }
  void synchronizeDevice(c10::DeviceIndex) const override { queue(0).wait(); }
  void synchronizeStream(const c10::Stream& stream) const override {
    queue(stream.id()).wait();
    log("synchronised", stream.id());
    if (is_there("lost")) is_lost = true;
    check();
  }

 private:
  static c10::Stream stream(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }
};

std::atomic<int64_t> allocated{0};

struct Memory final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* const block = std::malloc(bytes);
    allocated += static_cast<int64_t>(malloc_usable_size(block));
    return {block, block, free, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override { check(); }
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = stats.reserved_bytes[0].current = allocated;
    return stats;
  }
  static void free(void* block) {
    allocated -= static_cast<int64_t>(malloc_usable_size(block));
    std::free(block);
  }
} memory;

std::mutex pinned_mutex;
struct Pinned {
  size_t bytes;
  bool used;
};
std::map<const void*, Pinned> pinned;

struct PinnedMemory final : at::HostAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* const block = std::malloc(bytes);
    const std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned[block] = {bytes, false};
    return {block, block, free, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  // As libtorch's, it knows a block by its start only.
  bool record_event(void* at, void*, c10::Stream) override {
    const std::lock_guard<std::mutex> lock(pinned_mutex);
    const auto found = pinned.find(at);
    if (found != pinned.end()) found->second.used = true;
    return found != pinned.end();
  }
  void empty_cache() override { check(); }
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
  // As libtorch's, it asks the device whether a stream that has used the block still does.
  static void free(void* block) {
    const std::lock_guard<std::mutex> lock(pinned_mutex);
    if (pinned[block].used) check();
    pinned.erase(block);
    std::free(block);
  }
} pinned_memory;

bool is_pinned(const void* at) {
  const std::lock_guard<std::mutex> lock(pinned_mutex);
  const auto after = pinned.upper_bound(at);
  if (after == pinned.begin()) return false;
  const auto& [start, block] = *std::prev(after);
  return at < static_cast<const char*>(start) + block.bytes;
}

// The same elements, as the CPU computes with them.
at::Tensor on_cpu(const at::Tensor& tensor) {
  const auto options = at::TensorOptions(at::kCPU).dtype(tensor.scalar_type());
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
}

thread_local bool computing = false;

at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool non_blocking) {
  if (computing) {
    on_cpu(to).copy_(on_cpu(from));
    return to;
  }
  check();
  const bool is_in = from.is_cpu(), is_out = to.is_cpu();
  const bool returns = non_blocking && (!is_in || is_pinned(from.data_ptr())) && (!is_out || is_pinned(to.data_ptr()));
  const auto stream = current;
  if (returns && is_in != is_out)
    pinned_memory.record_event((is_in ? from : to).data_ptr(), nullptr, c10::Stream(c10::Stream::UNSAFE, kDevice, stream));
  queue(stream).put([=] {
    const c10::InferenceMode mode;
    if (is_in) log(returns ? "copy in" : "copy in that waits", stream);
    while (is_in && stream != 0 && is_there("held")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    on_cpu(to).copy_(on_cpu(from));
    if (is_in) log("copied in", stream);
    if (is_out) log(returns ? "copy out" : "copy out that waits", stream);
  });
  if (!returns) queue(stream).wait();
  return to;
}

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  check();
  queue(current).wait();
  computing = true;
  try {
    at::native::cpu_fallback(op, stack);
  } catch (...) {
    computing = false;
    throw;
  }
  computing = false;
}

const c10::DispatchKeySet kKey(c10::DispatchKey::CUDA);

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, kKey, c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, kKey, c10::dtype_or_default(type));
}

at::Tensor as_strided(const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(self, size, format);
}

// How the CPU's results come into tensors of the device.
at::Tensor copy_and_resize(const at::Tensor& from, const at::Tensor& to) {
  return to.resize_(from.sizes()).copy_(from);
}

at::Tensor view(const at::Tensor& self, at::IntArrayRef size) { return at::native::view(self, size); }

}  // namespace

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
}
REGISTER_ALLOCATOR(c10::DeviceType::CUDA, &memory)
const bool registered = (at::setHostAllocator(c10::DeviceType::CUDA, &pinned_memory), true);

namespace at {

// libtorch looks for it by this name.
struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  Allocator* getCUDADeviceAllocator() const override { return &memory; }
  Device getDeviceFromPtr(void*) const override { return kDevice; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  void deviceSynchronize(DeviceIndex) const override { queue(0).wait(); }
};
REGISTER_CUDA_HOOKS(CUDAHooks)

}  // namespace at

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", as_strided);
  m.impl("resize_", resize);
  m.impl("_copy_from_and_resize", copy_and_resize);
  m.impl("view", view);
  m.impl("copy_", copy);
}
