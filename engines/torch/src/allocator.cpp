// Keeps the memory of freed tensors for the next forward. A batch's activations are tens of MiB each; the system's malloc
// gives such blocks back to the kernel and fetches them anew, page by page: a fifth of a ResNet-18's CPU time at 32 rows.

#include "allocator.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

namespace {

// Below this, malloc keeps freed memory by itself.
constexpr size_t kSmallest = 64 << 10;
// As aligned as libtorch's own blocks.
constexpr size_t kAlignment = 64;
// From here on a block holds a whole huge page, wherever it starts.
constexpr size_t kHuge = 4 << 20;
constexpr uintptr_t kPage = 4096;

// Stands in front of every block.
struct alignas(kAlignment) Header {
  size_t capacity;
};

// Eight sizes from one power of two to the next: at most an eighth is wasted, and batches of similar size share blocks.
size_t rounded(size_t bytes) {
  size_t step = kSmallest / 8;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

class Cache {
 public:
  void* take(size_t bytes) {
    if (bytes < kSmallest) return fresh(bytes);
    const size_t capacity = rounded(bytes);
    if (void* const block = reuse(capacity)) return block;
    void* const block = fresh(capacity);
    const std::lock_guard<std::mutex> lock(mutex_);
    count(capacity);
    return block;
  }

  void give(void* block) {
    Header* const header = static_cast<Header*>(block) - 1;
    if (header->capacity < kSmallest) return c10::free_cpu(header);
    const std::lock_guard<std::mutex> lock(mutex_);
    live_ -= header->capacity;
    idle_bytes_ += header->capacity;
    idle_.emplace(header->capacity, header);
  }

  // Gives back what nobody uses, and forgets how much that was.
  void trim() {
    const std::lock_guard<std::mutex> lock(mutex_);
    shrink(0);
    peak_ = live_;
  }

 private:
  // A block that nobody uses, at most twice as large as is needed; or else room is made for a new one.
  void* reuse(size_t capacity) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = idle_.lower_bound(capacity);
    if (found == idle_.end() || found->first > 2 * capacity) {
      // As much again as is ever in use at once: a forward's blocks are of many sizes, and batches are, too.
      const size_t live = live_ + capacity;
      const size_t peak = std::max(peak_, live);
      shrink(peak - live + peak);
      return nullptr;
    }
    Header* const header = found->second;
    idle_bytes_ -= found->first;
    count(found->first);
    idle_.erase(found);
    return header + 1;
  }

  void count(size_t capacity) {
    live_ += capacity;
    peak_ = std::max(peak_, live_);
  }

  // Where there is no memory left, what nobody uses is given back first.
  void* fresh(size_t capacity) {
    try {
      return made(capacity);
    } catch (...) {
      trim();
      return made(capacity);
    }
  }

  static void* made(size_t capacity) {
    auto* const header = static_cast<Header*>(c10::alloc_cpu(sizeof(Header) + capacity));
    if (capacity >= kHuge) advise_huge_pages(header, capacity);
    header->capacity = capacity;
    return header + 1;
  }

  // Fewer page faults and fewer misses of the address cache; a kernel that will not is no error.
  static void advise_huge_pages(Header* header, size_t capacity) {
    const auto start = reinterpret_cast<uintptr_t>(header);
    const auto first_page = (start + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(first_page), (start + capacity - first_page) / kPage * kPage, MADV_HUGEPAGE);
  }

  // Frees idle blocks, the largest first, until at most `most` bytes of them are left.
  void shrink(size_t most) {
    while (idle_bytes_ > most) {
      const auto largest = std::prev(idle_.end());
      idle_bytes_ -= largest->first;
      c10::free_cpu(largest->second);
      idle_.erase(largest);
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, Header*> idle_;
  size_t idle_bytes_ = 0;
  size_t live_ = 0;
  // The most that was ever live at once.
  size_t peak_ = 0;
};

// Never destroyed: tensors may outlive whatever ends a process.
Cache& cache() {
  static Cache* const cache = new Cache();
  return *cache;
}

// oneDNN gives back nothing where it took nothing.
void give(void* block) {
  if (block != nullptr) cache().give(block);
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* const block = bytes == 0 ? nullptr : cache().take(bytes);
    return {block, block, &give, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give; }

  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

}  // namespace

void install_allocator() {
  // oneDNN takes its scratch memory from malloc, anew for every operator. These are glibc's own limits, raised and fixed.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
  static Allocator* const allocator = new Allocator();
  c10::SetCPUAllocator(allocator, 1);  // Above the default's 0.
}

void trim_allocator() { cache().trim(); }
