// AOTInductor: a package holds machine code, which is unpacked, opened and called.

#include "ear.h"
#include "lane.h"
#include "model.h"
#include "value.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

namespace {

using Loader = torch::inductor::AOTIModelPackageLoader;

// Calls the package, and says in its own words what it objects to.
template <typename Body>
auto listened(Body body) {
  const Ear ear;
  try {
    return body();
  } catch (const std::exception& error) {
    const auto gist = ear.gist();
    if (gist.empty()) throw;
    throw std::runtime_error("the package raised: " + gist);
  }
}

// The folders whose unpacked machine code is part of this process.
std::set<std::string> unpacked() {
  std::set<std::string> folders;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto path = line.find('/');
    // As the loader lays it out: a folder of its own, the archive's name, and the archive's own folders.
    const auto inside = line.find("/data/aotinductor/");
    if (path == std::string::npos || inside == std::string::npos) continue;
    folders.insert(std::filesystem::path(line.substr(path, inside - path)).parent_path());
  }
  return folders;
}

// Opens the package. What was unpacked for a CPU is removed at once, since nothing reads it again and a process that ends
// in a hurry would leave it behind; a GPU's kernels are read when they are first called.
std::unique_ptr<Loader> opened(const LoadOptions& options) {
  // Two at once are a data race in libtorch 2.11.
  static std::mutex one_by_one;
  const std::lock_guard<std::mutex> lock(one_by_one);
  const auto before = unpacked();
  const auto device = static_cast<c10::DeviceIndex>(options.cuda_index);
  auto loader = listened([&] {
    return std::make_unique<Loader>(options.path, "model", options.instances == 1, options.instances, device);
  });
  if (options.cuda_index >= 0) return loader;
  const auto after = unpacked();
  std::vector<std::string> ours;
  std::set_difference(after.begin(), after.end(), before.begin(), before.end(), std::back_inserter(ours));
  std::error_code ignored;
  for (const auto& folder : ours) std::filesystem::remove_all(folder, ignored);
  return loader;
}

class Package final : public Model {
 public:
  Package(std::unique_ptr<Loader> loader, at::Device device) : loader_(std::move(loader)), device_(device) {}

  // It names none of them.
  size_t arguments(Argue, void*) const override { return 0; }

  void forward(const Input* inputs, size_t count, Emit emit, void* outputs) override {
    const c10::InferenceMode guard;
    std::vector<at::Tensor> tensors;
    tensors.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      TORCH_CHECK(inputs[i].shape == nullptr, "a package takes no texts");
      tensors.push_back(on_device(*inputs[i].tensor, device_));
    }
    const auto results = listened([&] { return loader_->boxed_run(std::move(tensors)); });
    if (results.size() == 1) return emit_tensor(results[0], "output", emit, outputs);
    for (size_t i = 0; i < results.size(); ++i) emit_tensor(results[i], "output_" + std::to_string(i), emit, outputs);
  }

 private:
  std::unique_ptr<Loader> loader_;
  at::Device device_;
};

}  // namespace

std::unique_ptr<Model> load_package(const LoadOptions& options, Progress progress, void* context) {
  // The loader reads by itself and tells nobody how far it is.
  std::error_code ignored;
  const auto size = std::filesystem::file_size(options.path, ignored);
  if (progress(context, 0, size) == 0) throw Cancelled();
  auto loader = opened(options);
  if (progress(context, size, size) == 0) throw Cancelled();
  return std::make_unique<Package>(std::move(loader), device_of(options.cuda_index));
}
