// Four floats in a register, on any processor: for sums across lanes and for transposing.
#pragma once
#include <cstdint>
#include <cstring>

namespace {

typedef float float4 __attribute__((vector_size(16)));

#ifdef __clang__
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t int4 __attribute__((vector_size(16)));
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, int4{i, j, k, l})
#endif

inline float4 load4(const float* p) {
  float4 out;
  memcpy(&out, p, 16);
  return out;
}
inline void store4(float* p, float4 a) { memcpy(p, &a, 16); }

inline void transpose4(float4 (&v)[4]) {
  const float4 low01 = SHUFFLE(v[0], v[1], 0, 4, 1, 5), high01 = SHUFFLE(v[0], v[1], 2, 6, 3, 7);
  const float4 low23 = SHUFFLE(v[2], v[3], 0, 4, 1, 5), high23 = SHUFFLE(v[2], v[3], 2, 6, 3, 7);
  v[0] = SHUFFLE(low01, low23, 0, 1, 4, 5);
  v[1] = SHUFFLE(low01, low23, 2, 3, 6, 7);
  v[2] = SHUFFLE(high01, high23, 0, 1, 4, 5);
  v[3] = SHUFFLE(high01, high23, 2, 3, 6, 7);
}

}  // namespace
