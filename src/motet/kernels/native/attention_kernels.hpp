// The inner kernels of attention: scores of a few rows against a block of keys, and weighted sums
// of a block's values.
//
// How many rows, and how many vectors of keys or of channels, are taken at a time changes no bit:
// every sum has its own accumulator and goes channel after channel, or key after key.
#pragma once
#include "pages.hpp"

namespace {

#if MOTET_AVX512
constexpr int KERNEL_ROWS = 8;   // rows that share a number once it is loaded
constexpr int KERNEL_SUMS = 16;  // vectors of sums in registers
constexpr int QUERY_ROWS = 32;   // queries × heads that share the loading of a block
#elif MOTET_AVX2
constexpr int KERNEL_ROWS = 6;
constexpr int KERNEL_SUMS = 6;
constexpr int QUERY_ROWS = 48;
#else
constexpr int KERNEL_ROWS = 2;
constexpr int KERNEL_SUMS = 2;
constexpr int QUERY_ROWS = 32;
#endif

// Vectors of keys or of channels beside R rows.
constexpr int vectors_beside(int R) {
  return R * 4 <= KERNEL_SUMS ? 4 : R * 2 <= KERNEL_SUMS ? 2 : 1;
}

struct Rotary {
  const float* table = nullptr;   // [distances][2][padded half]: cosines and sines
  const float* places = nullptr;  // [half][2][PAGE]: those of the places in a block
  int64_t distances = 0;
  int half = 0, padded = 0;
  bool interleaved = false;
  float scale = 1;
};

// Channels in the order in which a score sums them: the pairs that rotate together, then the rest.
inline int first_channel(const Rotary& r, int i) { return r.interleaved ? 2 * i : i; }
inline int second_channel(const Rotary& r, int i) { return r.interleaved ? 2 * i + 1 : i + r.half; }

// Rows of queries in that order, `stride` numbers apart: first and second channels of the pairs,
// then the rest.
struct Queries {
  const float *first, *second, *rest;
  int64_t stride;
  Queries from(int row) const {
    return {first + row * stride, second + row * stride, rest + row * stride, stride};
  }
};

// What is read next, fetched piece by piece beside the computing: a block ends after some
// kilobytes, and the processor can't guess where the next one lies.
class Ahead {
 public:
  // `bytes` from `from` on, in so many steps; null: nothing.
  void spread(const uint8_t* from, int64_t bytes, int64_t steps) {
    at_ = from;
    lines_ = from ? (int)((bytes + LINE * steps - 1) / (LINE * steps)) : 0;
  }
  INLINE void step() {
    for (int i = 0; i < lines_; i++, at_ += LINE) __builtin_prefetch(at_, 0, 2);
  }

 private:
  static constexpr int64_t LINE = 64;
  const uint8_t* at_ = nullptr;
  int lines_ = 0;
};

// Where a kernel gets the keys of a block from: straight from the page …
template <int kind>
struct PageKeys {
  struct Pair {
    f32x16 x, y;
    INLINE f32x16 first() const { return x; }
    INLINE f32x16 second(f32x16&) const { return y; }
  };
  const Rotary& rotary;
  const float* places;
  const uint8_t* head;
  int64_t item;
  const float* scales;  // of Q8_0: [groups of 32 channels][PAGE]

  static constexpr bool WHOLE = true;  // all keys of a block are wanted
  INLINE f32x16 raw(int channel, int part) const {
    const f32x16 v = load_stored(head + ((int64_t)channel * PAGE + part * LANES) * item, kind);
    if constexpr (kind == KIND_Q8_0)
      return v * f32x16::load(scales + channel / 32 * PAGE + part * LANES);
    return v;
  }
  INLINE Pair pair(int i, int part) const {
    const f32x16 k0 = raw(first_channel(rotary, i), part);
    const f32x16 k1 = raw(second_channel(rotary, i), part);
    const f32x16 cos = f32x16::load(places + (i * 2) * PAGE + part * LANES);
    const f32x16 sin = f32x16::load(places + (i * 2 + 1) * PAGE + part * LANES);
    return {k0 * cos - k1 * sin, k0 * sin + k1 * cos};
  }
  INLINE f32x16 single(int channel, int part) const { return raw(channel, part); }
};

// … or from a copy that many rows share.
struct OpenKeys {
  const float* keys;  // [head_dim][PAGE], pairs side by side
  static constexpr bool WHOLE = false;
  struct Pair {
    const float* from;
    INLINE f32x16 first() const { return f32x16::load(from); }
    // Read once `sum` is there: with two registers to a vector there is no room before.
    INLINE f32x16 second([[maybe_unused]] f32x16& sum) const {
      const float* next = from + PAGE;
#if MOTET_AVX2
      asm("" : "+r"(next), "+x"(sum.v[0]));
#endif
      return f32x16::load(next);
    }
  };
  INLINE Pair pair(int i, int part) const { return {keys + 2 * i * PAGE + part * LANES}; }
  INLINE f32x16 single(int channel, int part) const {
    return f32x16::load(keys + channel * PAGE + part * LANES);
  }
};

template <int kind>
struct PageValues {
  const uint8_t* values;
  int64_t padded, item;
  const float* scales;  // of Q8_0: [PAGE][groups of 32 channels]
  int groups;
  INLINE f32x16 load(int j, int part) const {
    const f32x16 v = load_stored(values + (j * padded + part * LANES) * item, kind);
    if constexpr (kind == KIND_Q8_0) return v * f32x16::set(scales[j * groups + part * LANES / 32]);
    return v;
  }
};
struct OpenValues {
  const float* values;  // [PAGE][stride]
  int stride;
  INLINE f32x16 load(int j, int part) const {
    return f32x16::load(values + j * stride + part * LANES);
  }
};

// scores[R][…] of R rows, `stride` apart, against P of a block's vectors of keys, from `part` on.
template <int R, int P, class Keys>
NOINLINE void score_parts(const Keys keys, const Queries q, int head_dim, int half, int part,
                          float* scores, int64_t stride, Ahead& next) {
  Ahead ahead = next;  // in registers
  f32x16 acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) acc[r][p] = f32x16::set(0);
  for (int i = 0; i < half; i++) {
    ahead.step();
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const auto pair = keys.pair(i, part + p);
      const f32x16 x = pair.first();
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
        acc[r][p] = fma(x, f32x16::set(q.first[r * q.stride + i]), acc[r][p]);
      const f32x16 y = pair.second(acc[R - 1][p]);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
        acc[r][p] = fma(y, f32x16::set(q.second[r * q.stride + i]), acc[r][p]);
    }
  }
  for (int c = 2 * half; c < head_dim; c++) {
    ahead.step();
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const f32x16 x = keys.single(c, part + p);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
        acc[r][p] = fma(x, f32x16::set(q.rest[r * q.stride + c - 2 * half]), acc[r][p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) acc[r][p].store(scores + r * stride + (part + p) * LANES);
  next = ahead;
}

// Against a block's first `parts` vectors of keys.
template <int R, class Keys>
void score(const Keys& keys, const Queries& q, int head_dim, int half, float* scores, int parts,
           int64_t stride, Ahead& next) {
  constexpr int P = vectors_beside(R);
  int part = 0;
  for (; part + P <= parts; part += P)
    score_parts<R, P>(keys, q, head_dim, half, part, scores, stride, next);
  if constexpr (!Keys::WHOLE)
    for (; part < parts; part++)
      score_parts<R, 1>(keys, q, head_dim, half, part, scores, stride, next);
}

// out[R][padded] · fades[R] + weights[R][first…last) · values, key after key, in vectors of
// channels from `part` to `end`, P at a time; rows of weights are `stride` apart. Without fades
// they are 1.
template <int R, int P, class Values>
NOINLINE void mix_parts(const Values values, const float* weights, const float* fades, int first,
                        int last, int part, int end, int padded, float* out, int64_t stride,
                        Ahead& next) {
  Ahead ahead = next;  // in registers
  for (; part < end; part += P) {
    f32x16 acc[R][P];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) {
        acc[r][p] = f32x16::load(out + r * padded + (part + p) * LANES);
        if (fades) acc[r][p] = acc[r][p] * f32x16::set(fades[r]);
      }
    for (int j = first; j < last; j++) {
      ahead.step();
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) {
        const f32x16 v = values.load(j, part + p);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
          acc[r][p] = fma(v, f32x16::set(weights[r * stride + j]), acc[r][p]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) acc[r][p].store(out + r * padded + (part + p) * LANES);
  }
  next = ahead;
}
template <int R, class Values>
void mix(const Values& values, const float* weights, const float* fades, int first, int last,
         int padded, float* out, int64_t stride, Ahead& next) {
  constexpr int P = vectors_beside(R);
  const int end = padded / LANES, whole = end / P * P;
  mix_parts<R, P>(values, weights, fades, first, last, 0, whole, padded, out, stride, next);
  if constexpr (P > 1)
    mix_parts<R, 1>(values, weights, fades, first, last, whole, end, padded, out, stride, next);
}

// How many times the numbers are gone through: of `vectors` of keys or of channels, beside R rows.
constexpr int passes(int R, int vectors) {
  return vectors / vectors_beside(R) + vectors % vectors_beside(R);
}

// Calls f(R, r) on rows r … r + R − 1, as many at a time as `most` and a kernel take.
template <int most, class Function>
void by_rows(int rows, const Function& f) {
  int r = 0;
  for (; r + most <= rows; r += most) f(std::integral_constant<int, most>{}, r);
  if constexpr (most > 1) by_rows<most - 1>(rows - r, [&](auto R, int at) { f(R, r + at); });
}

}  // namespace
