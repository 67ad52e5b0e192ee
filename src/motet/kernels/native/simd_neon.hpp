// NEON: sixteen lanes in four registers. Multiply-adds are fused, so results are those of AVX2 and
// AVX-512. Products of bytes use the dot products of ARMv8.2 and the mixed ones of I8MM where the
// module is built for them.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int REGISTERS = 4;
using F = float32x4_t;
using I = int32x4_t;
inline F f_load(const float* p) { return vld1q_f32(p); }
inline void f_store(float* p, F a) { vst1q_f32(p, a); }
inline void f_stream(float* p, F a) { vst1q_f32(p, a); }  // it has no such store for one vector
inline F f_set(float a) { return vdupq_n_f32(a); }
inline F f_add(F a, F b) { return vaddq_f32(a, b); }
inline F f_sub(F a, F b) { return vsubq_f32(a, b); }
inline F f_mul(F a, F b) { return vmulq_f32(a, b); }
inline F f_div(F a, F b) { return vdivq_f32(a, b); }
inline F f_fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
// b where one of the two is NaN, or both are zeros, as x86 has it.
inline F f_max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F f_min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline F f_bits(I a) { return vreinterpretq_f32_s32(a); }
inline I i_bits(F a) { return vreinterpretq_s32_f32(a); }
inline F f_zero_below(F x, F low, F a) {
  return f_bits(vbicq_s32(i_bits(a), vreinterpretq_s32_u32(vcltq_f32(x, low))));
}
// a where x < limit, else b.
inline F f_choose_below(F x, F limit, F a, F b) { return vbslq_f32(vcltq_f32(x, limit), a, b); }
inline F f_and(F a, F b) { return f_bits(vandq_s32(i_bits(a), i_bits(b))); }
inline F f_or(F a, F b) { return f_bits(vorrq_s32(i_bits(a), i_bits(b))); }
inline F f_round(F a) { return vrndnq_f32(a); }
inline F f_from(I a) { return vcvtq_f32_s32(a); }
// What is no int32 gives the least one, as on x86.
inline I i_or_least(F a, I whole) {
  const uint32x4_t fits = vcltq_f32(a, vdupq_n_f32(0x1p31f));  // not NaN either
  return vbslq_s32(fits, whole, vdupq_n_s32(INT32_MIN));
}
inline I i_round(F a) { return i_or_least(a, vcvtnq_s32_f32(a)); }
// Towards zero.
inline I i_truncate(F a) { return i_or_least(a, vcvtq_s32_f32(a)); }
inline I i_load(const void* p) { return vreinterpretq_s32_s8(vld1q_s8((const int8_t*)p)); }
inline void i_store(void* p, I a) { vst1q_s8((int8_t*)p, vreinterpretq_s8_s32(a)); }
inline I i_set(int32_t a) { return vdupq_n_s32(a); }
inline I i_add(I a, I b) { return vaddq_s32(a, b); }
inline I i_max(I a, I b) { return vmaxq_s32(a, b); }
// The product's low half.
inline I i_mul(I a, I b) { return vmulq_s32(a, b); }
inline I i_and(I a, I b) { return vandq_s32(a, b); }
inline I i_or(I a, I b) { return vorrq_s32(a, b); }
inline I i_xor(I a, I b) { return veorq_s32(a, b); }
template <int n>
inline I i_left(I a) {
  return vshlq_n_s32(a, n);
}
template <int n>
inline I i_right(I a) {
  return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), n));
}
template <int n>
inline I i_right_signed(I a) {
  return vshrq_n_s32(a, n);
}
// a where a bit of the mask is set, else b.
inline I i_choose_bits(I mask, I a, I b) { return vbslq_s32(vreinterpretq_u32_s32(mask), a, b); }
inline I i_high_nibbles(I a) {
  return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(a), 4));
}
// a · 2^n, n a whole number in [-126, 128]: in two factors, since 2^128 is not a float.
inline F f_scale(F a, F n) {
  const I half = i_round(f_mul(n, f_set(0.5f))), rest = i_round(f_sub(n, f_from(half)));
  const I bias = i_set(127);
  a = f_mul(a, f_bits(i_left<23>(i_add(half, bias))));
  return f_mul(a, f_bits(i_left<23>(i_add(rest, bias))));
}
inline F f_half(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline void f_to_half(uint16_t* p, F a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
inline F f_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
// Four bytes as words.
inline uint16x4_t four_u8(const uint8_t* p) {
  uint32_t bytes;
  memcpy(&bytes, p, 4);
  return vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes))));
}
inline F f_u8(const uint8_t* p) { return vcvtq_f32_u32(vmovl_u16(four_u8(p))); }
inline F f_i8(const int8_t* p) {
  uint32_t bytes;
  memcpy(&bytes, p, 4);
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes)));
  return f_from(vmovl_s16(vget_low_s16(wide)));
}
inline I i_bytes(const uint8_t* p) { return vreinterpretq_s32_u32(vmovl_u16(four_u8(p))); }
inline I i_bytes_of_bits(const uint8_t* p) {
  const uint8x16_t eight = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
  const uint8x16_t each = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  return vreinterpretq_s32_u8(vtstq_u8(eight, each));
}
inline I i_look_up(const uint8_t* table, I a) {
  return vreinterpretq_s32_u8(vqtbl1q_u8(vld1q_u8(table), vreinterpretq_u8_s32(a)));
}
// Bytes as words, two a lane.
inline I i_words(const uint8_t* p) {
  return vreinterpretq_s32_s16(vmovl_s8(vld1_s8((const int8_t*)p)));
}
// acc + the two products of words in each lane.
inline I i_dot_words(I acc, I w, I a) {
  const int16x8_t x = vreinterpretq_s16_s32(w), y = vreinterpretq_s16_s32(a);
  const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  return i_add(acc, vpaddq_s32(low, vmull_high_s16(x, y)));
}
// acc + the four products of signed bytes in each lane: quants of eight bits have signs here, see
// OF_BYTES.
template <int bits>
inline I i_dot(I acc, I w, I a) {
  const int8x16_t x = vreinterpretq_s8_s32(w), y = vreinterpretq_s8_s32(a);
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_s32(acc, x, y);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
  return i_add(acc, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(x, y))));
#endif
}

}  // namespace
