// Keeps the memory of freed tensors for the next forward. A batch's activations are tens of MiB each; the system's malloc
// gives such blocks back to the kernel and fetches them anew, page by page: a fifth of a ResNet-18's CPU time at 32 rows.

#include "allocator.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

namespace {

// Below this, malloc keeps freed memory by itself.
constexpr size_t kSmallest = 64 << 10;
// As aligned as libtorch's own blocks.
constexpr size_t kAlignment = 64;
// From here on a block holds a whole huge page, wherever it starts.
constexpr size_t kHuge = 4 << 20;
constexpr uintptr_t kPage = 4096;

// Stands right in front of every block.
struct Header {
  // Where malloc's block starts, up to kAlignment before this one.
  void* base;
  size_t capacity;
};
static_assert(sizeof(Header) == alignof(std::max_align_t), "a header fits where malloc's block starts");

Header* header_of(void* block) { return static_cast<Header*>(block) - 1; }

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
    const Header header = *header_of(block);
    if (header.capacity < kSmallest) return std::free(header.base);
    const std::lock_guard<std::mutex> lock(mutex_);
    live_ -= header.capacity;
    idle_bytes_ += header.capacity;
    idle_.emplace(header.capacity, block);
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
    void* const block = found->second;
    idle_bytes_ -= found->first;
    count(found->first);
    idle_.erase(found);
    return block;
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

  // By malloc, never by posix_memalign: glibc splits a scrap off before and after each small block then, which nobody asks
  // for again. It joins them when some large block comes or goes: a hundred thousand at once, while everyone waits.
  static void* made(size_t capacity) {
    void* const base = std::malloc(capacity + kAlignment);
    TORCH_CHECK(base != nullptr, "can't allocate memory: ", capacity, " bytes for a tensor");
    const auto start = reinterpret_cast<uintptr_t>(base);
    const auto aligned = (start + sizeof(Header) + kAlignment - 1) / kAlignment * kAlignment;
    auto* const block = reinterpret_cast<void*>(aligned);
    *header_of(block) = {base, capacity};
    if (capacity >= kHuge) advise_huge_pages(aligned, capacity);
    return block;
  }

  // Fewer page faults and fewer misses of the address cache; a kernel that will not is no error.
  static void advise_huge_pages(uintptr_t start, size_t capacity) {
    const auto first_page = (start + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(first_page), (start + capacity - first_page) / kPage * kPage, MADV_HUGEPAGE);
  }

  // Frees idle blocks, the largest first, until at most `most` bytes of them are left.
  void shrink(size_t most) {
    while (idle_bytes_ > most) {
      const auto largest = std::prev(idle_.end());
      idle_bytes_ -= largest->first;
      std::free(header_of(largest->second)->base);
      idle_.erase(largest);
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> idle_;
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
