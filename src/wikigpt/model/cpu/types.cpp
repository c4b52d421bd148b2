// What torch can multiply here.

#include "vectors.h"

extern "C" {

// 0: torch has no products for this processor; 1: fp32; 2: bf16 too.
int wikigpt_types() { return multiplies<float>() ? 1 + multiplies<BFloat16>() : 0; }
}
