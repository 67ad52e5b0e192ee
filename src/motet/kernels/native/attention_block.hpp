// One block of keys and values against some rows of queries: scores, softmax in the making, sums.
#pragma once
#include <bit>
#include <numeric>

#include "block_tables.hpp"

namespace {

struct Rotary {
  const float* table = nullptr;   // [distances][2][padded half]: cosines and sines
  const float* places = nullptr;  // [half][2][PAGE]: those of the places in a block
  int64_t distances = 0;
  int half = 0, padded = 0;
  bool interleaved = false;
  float scale = 1;
};

// Self-Extend with one group size: far keys are rotated by their group's place in the block. Blocks
// begin at different places in a group, unless the group's size divides a block's.
struct Stage {
  int64_t group;
  const float* places;  // [group / gcd(group, PAGE)][half][2][PAGE]
  const float* places_of(int64_t start, int half) const {
    return places + start % group / std::gcd(group, (int64_t)PAGE) * half * 2 * PAGE;
  }
};
struct SelfExtend {
  int window = 0;                  // 0: no Self-Extend
  std::vector<int32_t> stage;      // [tokens]: index of each query's stage
  const float* factors = nullptr;  // [tokens] that multiply queries; may be absent
  std::vector<Stage> stages;
  int32_t stage_of(int64_t t) const { return window ? stage[t] : 0; }

  // From a block's start, in groups, to a query that sees some of the block's keys as far.
  int64_t distance(int64_t position, int64_t start, int64_t group) const {
    return position / group + window - window / group - start / group;
  }
};

// What is added to scores, by distance: [heads][2 · reach + 1], the middle one of distance 0.
struct Bias {
  const float* table = nullptr;  // may be absent
  int64_t reach = 0;
  const float* of_zero(int64_t head) const { return table + head * (2 * reach + 1) + reach; }
};
inline void raise(float* scores, const float* bias) {
  for (int p = 0; p < PAGE; p += LANES)
    (f32x16::load(scores + p) + f32x16::load(bias + p)).store(scores + p);
}

struct Attention {
  const float* q;
  const Pool& pool;
  const BlockTables& tables;
  int heads;
  int value_dim;
  float scale;
  int window;
  float softcap;
  const Rotary& rotary;
  const SelfExtend& extend;
  Bias bias;
  float* out;

  // Entries that a rotary table must have, and distances that a bias is read at. A query's distance
  // to the start of a block with a key that it sees near is that key's, which a window bounds, and
  // at most PAGE − 1 more.
  int64_t distances() const {
    int64_t most = tables.furthest;
    for (int64_t near : {window, extend.window})
      if (near) most = std::min(most, near - 1 + PAGE - 1);
    for (int64_t t = 0; extend.window && t < tables.tokens(); t++)
      if (tables.positions[t] >= extend.window)
        most = std::max(
            most, extend.distance(tables.positions[t], 0, extend.stages[extend.stage[t]].group));
    return most + 1;
  }
  int group() const { return heads / pool.kv_heads; }
  int padded() const { return (value_dim + LANES - 1) / LANES * LANES; }
  // Whether values are the last channels of the keys.
  bool latent() const { return pool.value_dim == 0; }
};

// Channels in the order in which a score sums them: the pairs that rotate together, then the rest.
inline int first_channel(const Rotary& r, int i) { return r.interleaved ? 2 * i : i; }
inline int second_channel(const Rotary& r, int i) { return r.interleaved ? 2 * i + 1 : i + r.half; }

// Where a kernel gets the keys of a block from: straight from the page …
template <int kind>
struct PageKeys {
  const Attention& a;
  const uint8_t* head;
  const float* places;

  f32x16 raw(int channel, int part) const {
    const f32x16 v =
        load_stored(head + ((int64_t)channel * PAGE + part * LANES) * a.pool.item, kind);
    if constexpr (kind == KIND_Q8_0)
      return v * f32x16::half((const uint16_t*)(head + a.pool.key_scales) + channel / 32 * PAGE +
                              part * LANES);
    return v;
  }
  void pair(int i, int part, f32x16& x, f32x16& y) const {
    const f32x16 k0 = raw(first_channel(a.rotary, i), part);
    const f32x16 k1 = raw(second_channel(a.rotary, i), part);
    const f32x16 cos = f32x16::load(places + (i * 2) * PAGE + part * LANES);
    const f32x16 sin = f32x16::load(places + (i * 2 + 1) * PAGE + part * LANES);
    x = k0 * cos - k1 * sin;
    y = k0 * sin + k1 * cos;
  }
  f32x16 single(int channel, int part) const { return raw(channel, part); }
};

// … or from a copy that several rows share.
struct OpenKeys {
  const float* keys;  // [head_dim][PAGE], pairs side by side
  void pair(int i, int part, f32x16& x, f32x16& y) const {
    x = f32x16::load(keys + (2 * i) * PAGE + part * LANES);
    y = f32x16::load(keys + (2 * i + 1) * PAGE + part * LANES);
  }
  f32x16 single(int channel, int part) const {
    return f32x16::load(keys + channel * PAGE + part * LANES);
  }
};

template <int kind>
struct PageValues {
  const Attention& a;
  const uint8_t* head;
  f32x16 load(int j, int part) const {
    const f32x16 v = load_stored(
        head + a.pool.values + ((int64_t)j * a.pool.padded + part * LANES) * a.pool.item, kind);
    if constexpr (kind == KIND_Q8_0) {
      const int groups = (a.pool.value_dim + 31) / 32;
      const auto* scales = (const uint16_t*)(head + a.pool.value_scales) + j * groups;
      return v * f32x16::set(half_value(scales[part * LANES / 32]));
    }
    return v;
  }
};
struct OpenValues {
  const float* values;  // [PAGE][stride]
  int stride;
  f32x16 load(int j, int part) const { return f32x16::load(values + j * stride + part * LANES); }
};

// Rows of PAGE numbers, a channel each, to [PAGE][stride], with zeros up to whole vectors.
inline void transpose(const float* rows, int channels, float* out, int stride) {
  for (int j0 = 0; j0 < PAGE; j0 += LANES)
    for (int c = 0; c < (channels + LANES - 1) / LANES * LANES; c += 4)
      for (int j = j0; j < j0 + LANES; j += 4) {
        __m128 v[4] = {};
        for (int i = 0; i < std::min(4, channels - c); i++)
          v[i] = _mm_loadu_ps(rows + (c + i) * PAGE + j);
        _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
        for (int i = 0; i < 4; i++) _mm_storeu_ps(out + (j + i) * stride + c, v[i]);
      }
}

// scores[R][P · LANES] of R rows, `stride` apart, against a block's first P vectors of keys; q is
// [row][head_dim], pairs side by side.
template <int R, int P = PARTS, class Keys>
NOINLINE void score(const Keys& keys, const float* q, int head_dim, int half, float* scores,
                    int64_t stride = PAGE) {
  f32x16 acc[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) acc[r][p] = f32x16::set(0);
  for (int i = 0; i < half; i++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      f32x16 x, y;
      keys.pair(i, p, x, y);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        acc[r][p] = fma(x, f32x16::set(q[r * head_dim + 2 * i]), acc[r][p]);
        acc[r][p] = fma(y, f32x16::set(q[r * head_dim + 2 * i + 1]), acc[r][p]);
      }
    }
  for (int c = 2 * half; c < head_dim; c++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const f32x16 x = keys.single(c, p);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) acc[r][p] = fma(x, f32x16::set(q[r * head_dim + c]), acc[r][p]);
    }
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) acc[r][p].store(scores + r * stride + p * LANES);
}

// out[R][padded] += weights[R][first…last) · values, key after key; rows of weights are `stride`
// apart.
template <int R, int P, class Values>
NOINLINE void mix_parts(const Values& values, const float* weights, int first, int last, int part,
                        int padded, float* out, int64_t stride) {
  f32x16 acc[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) acc[r][p] = f32x16::load(out + r * padded + (part + p) * LANES);
  for (int j = first; j < last; j++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const f32x16 v = values.load(j, part + p);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++)
        acc[r][p] = fma(v, f32x16::set(weights[r * stride + j]), acc[r][p]);
    }
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) acc[r][p].store(out + r * padded + (part + p) * LANES);
}
template <int R, class Values>
void mix(const Values& values, const float* weights, int first, int last, int padded, float* out,
         int64_t stride = PAGE) {
  int part = 0;
  for (; part + 4 <= padded / LANES; part += 4)
    mix_parts<R, 4>(values, weights, first, last, part, padded, out, stride);
  for (; part + 2 <= padded / LANES; part += 2)
    mix_parts<R, 2>(values, weights, first, last, part, padded, out, stride);
  for (; part < padded / LANES; part++)
    mix_parts<R, 1>(values, weights, first, last, part, padded, out, stride);
}

inline float exp_one(float x) {
  float out[LANES];
  exp(f32x16::set(x)).store(out);
  return out[0];
}

// 1, or NaN where a query is not finite: of its scores the greatest is taken, and NaN is lost
// there.
inline float soundness(const float* query, int channels) {
  uint32_t most = 0;  // of the magnitudes' bits, which are in the magnitudes' order
  for (int c = 0; c < channels; c++)
    most = std::max(most, std::bit_cast<uint32_t>(query[c]) & 0x7fffffffu);
  return most < 0x7f800000u ? 1.0f : NAN;
}

// A softmax in the making for some rows: greatest score, sum of weights, weighted values.
struct State {
  State(int rows, int padded) : greatest(rows), total(rows), values((int64_t)rows * padded) {}
  void clear(int rows, int padded) {
    std::fill_n(greatest.p, rows, -INFINITY);
    std::fill_n(total.p, rows, 0.0f);
    std::fill_n(values.p, (int64_t)rows * padded, 0.0f);
  }
  // Bring a row to a new greatest score, to which weights of this sum are relative.
  void raise_to(int row, float top, float weight, int padded) {
    const float old = greatest.p[row], fade = old == -INFINITY ? 0.0f : exp_one(old - top);
    total.p[row] = std::fma(total.p[row], fade, weight);
    greatest.p[row] = top;
    if (fade == 1.0f) return;
    float* v = values.p + (int64_t)row * padded;
    for (int i = 0; i < padded; i += LANES) (f32x16::load(v + i) * f32x16::set(fade)).store(v + i);
  }
  // Add what a later chunk made of a row.
  void join(int row, float later_greatest, float later_total, const float* later, int padded) {
    if (later_greatest == -INFINITY) return;
    float* v = values.p + (int64_t)row * padded;
    const float top = std::max(greatest.p[row], later_greatest);
    const float a = greatest.p[row] == -INFINITY ? 0.0f : exp_one(greatest.p[row] - top);
    const float b = exp_one(later_greatest - top);
    const f32x16 va = f32x16::set(a), vb = f32x16::set(b);
    total.p[row] = std::fma(total.p[row], a, later_total * b);
    greatest.p[row] = top;
    for (int i = 0; i < padded; i += LANES)
      fma(f32x16::load(v + i), va, f32x16::load(later + i) * vb).store(v + i);
  }
  Buffer<float> greatest, total, values;
};

// Scores of a row against a block to weights in place, and its state brought to the new greatest
// score. Keys that it does not see have weight 0.
inline void weigh(State& state, int r, float* scores, uint64_t seen, float softcap, int padded) {
  if (softcap > 0) {
    const f32x16 cap = f32x16::set(softcap);
    for (int p = 0; p < PAGE; p += LANES)
      (cap * tanh(f32x16::load(scores + p) / cap)).store(scores + p);
  }
  if (~seen)
    for (int j = 0; j < PAGE; j++)
      if (!(seen >> j & 1)) scores[j] = -INFINITY;
  f32x16 most = f32x16::load(scores);
  for (int p = LANES; p < PAGE; p += LANES) most = maximum(most, f32x16::load(scores + p));
  const float top = std::max(state.greatest.p[r], largest(most));
  f32x16 weight = f32x16::set(0);
  for (int p = 0; p < PAGE; p += LANES) {
    const f32x16 w = exp(f32x16::load(scores + p) - f32x16::set(top));
    w.store(scores + p);
    weight = weight + w;
  }
  state.raise_to(r, top, sum(weight), padded);
}

// Call f(R, r) on rows r … r + R − 1, as many at a time as a kernel takes.
template <class Function>
void by_rows(int rows, const Function& f) {
  int r = 0;
  for (; r + 4 <= rows; r += 4) f(std::integral_constant<int, 4>{}, r);
  for (; r + 2 <= rows; r += 2) f(std::integral_constant<int, 2>{}, r);
  for (; r < rows; r++) f(std::integral_constant<int, 1>{}, r);
}

}  // namespace
