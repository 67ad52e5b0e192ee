// What differs between processors beside their vectors: how floats are set, waiting, and names.
#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif !defined(__aarch64__) || defined(__AARCH64EB__)
#error "Motet's kernels are for x86-64 and for little-endian 64-bit ARM"
#endif

namespace {

// The register that says how this thread rounds, and what it does with subnormal numbers.
#if defined(__x86_64__)
using FloatMode = uint32_t;
constexpr FloatMode PLAIN_FLOATS = 0x1f80;      // to nearest, subnormals as they are, no traps
constexpr FloatMode FLUSH_SUBNORMALS = 0x8040;  // to zeros, coming in and going out
inline FloatMode float_mode() { return _mm_getcsr(); }
inline void set_float_mode(FloatMode mode) { _mm_setcsr(mode); }
// A short wait inside a loop that waits for another thread.
inline void relax() { _mm_pause(); }
// After it others see what was stored past the caches.
inline void settle_streams() { _mm_sfence(); }
#else
using FloatMode = uint64_t;
constexpr FloatMode PLAIN_FLOATS = 0;
constexpr FloatMode FLUSH_SUBNORMALS = 1 << 24;
inline FloatMode float_mode() {
  FloatMode mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
inline void set_float_mode(FloatMode mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
// Of the two, `isb` waits about as long as x86's pause.
inline void relax() { asm volatile("isb"); }
inline void settle_streams() {}
#endif

inline bool is_intel() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

}  // namespace
