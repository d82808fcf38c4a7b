// What goes into a forward and what comes out of it, as libtorch has it and as the border has it.

#pragma once

#include "border.h"

#include <string>

#include <ATen/core/ivalue.h>

// What the ABI calls an argument of this type: 1 for a tensor, 2 for a list of texts, 3 for a list of such lists.
uint32_t kind_of(const c10::Type& type);

// Texts as an argument of this type takes them: a list with one a row, or a list of lists.
c10::IValue texts_of(const Input& input, const c10::Type& type);

// Gives a tensor away, contiguous and in host memory, once the lane has run.
void emit_tensor(const at::Tensor& tensor, const std::string& name, Emit emit, void* context);

// A tensor is `output`; elements of a tuple or list are `output_0`, `output_1`, …; those of a dict carry their keys.
void emit_value(const c10::IValue& value, const std::string& name, Emit emit, void* context);
