// A loaded model of either form, as the border sees it.

#pragma once

#include "border.h"

#include <memory>
#include <string>

#include <c10/core/ScalarType.h>

// What to load, and how.
struct LoadOptions {
  const char* path;
  int32_t cuda_index;
  bool is_package;
  // c10's number of the type to compute floating-point numbers in; -1 leaves it to the model.
  int32_t precision;
  bool channels_last;
  // How many forwards may run at the same time.
  uint32_t instances;
};

class Model {
 public:
  virtual ~Model() = default;

  // Tells each argument, and returns the number of those, from the front, that have no default.
  virtual size_t arguments(Argue argue, void* into) const = 0;

  // Whether parts of a forward run on threads of libtorch, which know nothing of the caller's stream.
  virtual bool forks() const { return false; }

  // Called from as many threads at once as there are instances, in the lane of each.
  virtual void forward(const Input* inputs, size_t count, Emit emit, void* outputs) = 0;
};

// `script.cpp`: a TorchScript archive.
std::unique_ptr<Model> load_script(const LoadOptions& options, Progress progress, void* context);

// `package.cpp`: a package that AOTInductor compiled.
std::unique_ptr<Model> load_package(const LoadOptions& options, Progress progress, void* context);
