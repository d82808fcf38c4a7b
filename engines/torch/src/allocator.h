// The allocator of tensors in host memory.
#pragma once

// Once, before the first tensor.
void install_allocator();

// Gives memory that no tensor uses back to the system.
void trim_allocator();
