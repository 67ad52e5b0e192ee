// A layer's pages of keys and values, and how a token is written into them (see host_memory.py).
#pragma once
#include <cmath>

#include "activations.hpp"

namespace {

constexpr int PAGE = 64;
constexpr int PARTS = PAGE / LANES;

enum Kind : int { KIND_F32 = 0, KIND_F16 = 1, KIND_BF16 = 2, KIND_Q8_0 = 3 };

// Scales of Q8_0 that a token of so many channels has.
constexpr int scale_groups(int channels) { return (channels + 31) / 32; }

// A layer's pages; see host_memory.py for the layout. value_dim is 0 where values are a part of the
// keys.
struct Pool {
  Pool(uint8_t* data, int64_t pages, int kv_heads, int head_dim, int value_dim, int kind)
      : data(data),
        pages(pages),
        kv_heads(kv_heads),
        head_dim(head_dim),
        value_dim(value_dim),
        padded((value_dim + LANES - 1) / LANES * LANES),
        kind(kind),
        item(kind == KIND_F32    ? 4
             : kind == KIND_Q8_0 ? 1
                                 : 2) {
    const bool scaled = kind == KIND_Q8_0;
    key_scales = (int64_t)head_dim * PAGE * item;
    values = key_scales + (scaled ? scale_groups(head_dim) * PAGE * 2 : 0);
    value_scales = values + (int64_t)PAGE * padded * item;
    head_bytes = value_scales + (scaled ? scale_groups(value_dim) * PAGE * 2 : 0);
  }
  uint8_t* head(int64_t page, int h) const { return data + (page * kv_heads + h) * head_bytes; }

  uint8_t* data;
  int64_t pages;
  int kv_heads, head_dim, value_dim, padded, kind, item;
  int64_t key_scales, values, value_scales, head_bytes;
};

// Sixteen stored numbers.
inline f32x16 load_stored(const uint8_t* p, int kind) {
  switch (kind) {
    case KIND_F32: return f32x16::load((const float*)p);
    case KIND_F16: return f32x16::half((const uint16_t*)p);
    case KIND_BF16: return f32x16::bf16((const uint16_t*)p);
    default: return f32x16::i8((const int8_t*)p);
  }
}

inline float half_value(uint16_t h) {
  uint16_t x[LANES] = {h};
  float out[LANES];
  f32x16::half(x).store(out);
  return out[0];
}
inline uint16_t half_bits(float x) {
  uint16_t out[LANES];
  f32x16::set(x).store_half(out);
  return out[0];
}

// One token's keys or values of one head: `stride` bytes from channel to channel. False if a number
// is not finite in the pool's kind (it is then stored as the largest that is).
inline bool store_token(const float* x, int channels, int kind, uint8_t* out, int64_t stride,
                        uint8_t* scales, int64_t scale_stride) {
  bool fine = true;
  const float limit = kind == KIND_F16 ? 65504.0f : kind == KIND_Q8_0 ? 65504.0f * 127 : 3.38e38f;
  for (int start = 0; start < channels; start += 32) {
    const int count = std::min(32, channels - start);
    float v[32] = {};
    float most = 0;
    for (int i = 0; i < count; i++) {
      v[i] = x[start + i];
      const float size = std::fabs(v[i]);
      if (!(size <= limit)) {
        fine = false;
        v[i] = size > limit ? std::copysign(limit, v[i]) : 0.0f;
      }
      most = std::max(most, std::fabs(v[i]));
    }
    uint8_t* at = out + start * stride;
    if (kind == KIND_F32) {
      for (int i = 0; i < count; i++) memcpy(at + i * stride, &v[i], 4);
    } else if (kind == KIND_F16) {
      uint16_t h[32];
      f32x16::load(v).store_half(h);
      f32x16::load(v + 16).store_half(h + 16);
      for (int i = 0; i < count; i++) memcpy(at + i * stride, &h[i], 2);
    } else if (kind == KIND_BF16) {
      uint32_t bits[32];
      store_int(bits, rounded_to_bf16(f32x16::load(v)));
      store_int(bits + 16, rounded_to_bf16(f32x16::load(v + 16)));
      for (int i = 0; i < count; i++) {
        const uint16_t b = (uint16_t)(bits[i] >> 16);
        memcpy(at + i * stride, &b, 2);
      }
    } else {
      const uint16_t s = half_bits(most / 127);
      memcpy(scales + start / 32 * scale_stride, &s, 2);
      const float step = half_value(s);
      for (int i = 0; i < count; i++) {
        const float n = step > 0 ? std::nearbyint(v[i] / step) : 0.0f;
        at[i * stride] = (uint8_t)(int8_t)std::min(127.0f, std::max(-127.0f, n));
      }
    }
  }
  return fine;
}

inline bool store(ThreadPool& threads, const Pool& pool, const float* k, const float* v,
                  const int64_t* slots, int64_t tokens) {
  std::atomic<bool> fine{true};
  auto one = [&](int t, int) {
    const int64_t page = slots[t] / PAGE, slot = slots[t] % PAGE;
    for (int h = 0; h < pool.kv_heads; h++) {
      uint8_t* head = pool.head(page, h);
      const int64_t at = (int64_t)t * pool.kv_heads + h;
      bool good =
          store_token(k + at * pool.head_dim, pool.head_dim, pool.kind, head + slot * pool.item,
                      PAGE * pool.item, head + pool.key_scales + slot * 2, PAGE * 2);
      if (v)
        good &= store_token(v + at * pool.value_dim, pool.value_dim, pool.kind,
                            head + pool.values + slot * pool.padded * pool.item, pool.item,
                            head + pool.value_scales + slot * scale_groups(pool.value_dim) * 2, 2);
      if (!good) fine.store(false, std::memory_order_relaxed);
    }
  };
  // Neighbouring tokens share cache lines, so few of them stay on one thread.
  if (tokens < 32)
    for (int t = 0; t < tokens; t++) one(t, 0);
  else
    threads.run((tokens + 15) / 16, [&](int piece, int) {
      for (int t = piece * 16; t < std::min<int64_t>(tokens, piece * 16 + 16); t++) one(t, 0);
    });
  return fine.load();
}

}  // namespace
