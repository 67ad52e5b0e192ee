// RWKV-7's recurrence. A state lies as [key][value], a thread has a head at a time, and each token
// passes through the state once: what the next token's κ sees of it is summed on the way.
#pragma once
#include "recurrent.hpp"

namespace {

// S ← S·diag(decay) − (S·κ) ⊗ (κ ⊙ a) + v ⊗ k; y = S·r, normalised, and v times what r sees of k.
struct Wkv7 {
  Rows r, w, k, v, a;
  const float *k_k, *k_a, *r_k, *norm, *norm_bias;  // [heads][size]
  float eps;
  int64_t heads, size;
  float* states;  // [slots][heads][size][size]
  float* out;
};

// What a token brings to a head, by key channels.
struct Wkv7Token {
  explicit Wkv7Token(int64_t size) : decay(size), kappa(size), rate(size), key(size) {}
  Buffer<float> decay, kappa, rate, key;
  float bonus = 0;
};

constexpr float FASTEST = -0.60653066f;  // −e^−½: the decay is between its exponential and 1

inline void read_token(const Wkv7& s, int64_t row, int64_t head, Wkv7Token& token) {
  const int64_t at = head * s.size;
  f32x16 squares = f32x16::set(0), bonus = f32x16::set(0);
  const f32x16 one = f32x16::set(1);
  along(s.k[row] + at, s.size, [&](f32x16 k, int64_t i, int lanes) {
    const f32x16 kappa = k * take(s.k_k + at + i, lanes);
    const f32x16 a = sigmoid(take(s.a[row] + at + i, lanes));
    const f32x16 key = k * fma(a - one, take(s.k_a + at + i, lanes), one);
    squares = fma(kappa, kappa, squares);
    bonus = fma(take(s.r[row] + at + i, lanes) * key, take(s.r_k + at + i, lanes), bonus);
    put(token.decay.p + i, lanes,
        exp(f32x16::set(FASTEST) * sigmoid(take(s.w[row] + at + i, lanes))));
    put(token.kappa.p + i, lanes, kappa);
    put(token.rate.p + i, lanes, a);
    put(token.key.p + i, lanes, key);
  });
  const float length = std::sqrt(sum(squares));
  const f32x16 scale = f32x16::set(1 / (length < 1e-12f ? 1e-12f : length));
  along(token.kappa.p, s.size, [&](f32x16 kappa, int64_t i, int lanes) {
    kappa = kappa * scale;
    put(token.kappa.p + i, lanes, kappa);
    put(token.rate.p + i, lanes, f32x16::set(0) - kappa * take(token.rate.p + i, lanes));
  });
  token.bonus = sum(bonus);
}

// S·κ for V vectors of values.
template <int V>
void wkv7_seen(const float* state, int64_t size, const float* kappa, int lanes, float* seen) {
  f32x16 total[V];
  for (int j = 0; j < V; j++) total[j] = f32x16::set(0);
  for (int64_t i = 0; i < size; i++) {
    const f32x16 each = f32x16::set(kappa[i]);
    for (int j = 0; j < V; j++)
      total[j] = fma(each, take(state + i * size + j * LANES, lanes), total[j]);
  }
  for (int j = 0; j < V; j++) put(seen + j * LANES, lanes, total[j]);
}

// One token for V vectors of values, of which it has `seen` S·κ; afterwards the next one has.
template <int V>
void wkv7_token(const Wkv7Token& token, const float* r, const float* value, const float* next,
                int64_t size, int lanes, const float* from, float* to, float* seen, float* out) {
  f32x16 v[V], removed[V], y[V], total[V];
  for (int j = 0; j < V; j++) {
    v[j] = take(value + j * LANES, lanes);
    removed[j] = take(seen + j * LANES, lanes);
    y[j] = total[j] = f32x16::set(0);
  }
  for (int64_t i = 0; i < size; i++) {
    const f32x16 fade = f32x16::set(token.decay.p[i]), rate = f32x16::set(token.rate.p[i]);
    const f32x16 key = f32x16::set(token.key.p[i]), query = f32x16::set(r[i]);
    const f32x16 kappa = f32x16::set(next[i]);
    for (int j = 0; j < V; j++) {
      const int64_t place = i * size + j * LANES;
      const f32x16 fresh = fma(key, v[j], rate * removed[j]);
      const f32x16 h = fma(fade, take(from + place, lanes), fresh);
      put(to + place, lanes, h);
      y[j] = fma(query, h, y[j]);
      total[j] = fma(kappa, h, total[j]);
    }
  }
  for (int j = 0; j < V; j++) {
    put(out + j * LANES, lanes, y[j]);
    put(seen + j * LANES, lanes, total[j]);
  }
}

// Call f(vectors, place, lanes) for the values of a head, several vectors at a time.
template <class Function>
void over_values(int64_t size, const Function& f) {
  constexpr int V = 4;
  int64_t at = 0;
  for (; at + V * LANES <= size; at += V * LANES) f(std::integral_constant<int, V>{}, at, LANES);
  for (; at < size; at += LANES)
    f(std::integral_constant<int, 1>{}, at, (int)std::min<int64_t>(LANES, size - at));
}

inline void wkv7(ThreadPool& pool, const Wkv7& s, const Runs& runs) {
  const int64_t square = s.size * s.size, whole = s.heads * square;
  over_runs(pool, runs, s.heads, square / 3, [&](int64_t run, int64_t first, int64_t last) {
    Wkv7Token two[] = {Wkv7Token(s.size), Wkv7Token(s.size)};  // this one and the next, in turn
    Buffer<float> seen(s.size);
    for (int64_t head = first; head < last; head++) {
      float* to = s.states + runs.write[run] * whole + head * square;
      const float* from = slot_of(s.states, runs.read[run], whole);
      from = begin(from ? from + head * square : nullptr, to, 1, 0, square);
      const int64_t column = head * s.size, start = runs.starts[run];
      const int64_t stop = runs.starts[run + 1];
      read_token(s, runs.order[start], head, two[start % 2]);
      over_values(s.size, [&](auto V, int64_t at, int lanes) {
        wkv7_seen<V()>(from + at, s.size, two[start % 2].kappa.p, lanes, seen.p + at);
      });
      for (int64_t t = start; t < stop; t++, from = to) {
        const int64_t row = runs.order[t], last_one = t + 1 == stop;
        const Wkv7Token &token = two[t % 2], &next = two[(t + !last_one) % 2];
        if (!last_one) read_token(s, runs.order[t + 1], head, two[(t + 1) % 2]);
        const float *r = s.r[row] + column, *v = s.v[row] + column;
        float* out = s.out + row * s.heads * s.size + column;
        over_values(s.size, [&](auto V, int64_t at, int lanes) {
          wkv7_token<V()>(token, r, v + at, next.kappa.p, s.size, lanes, from + at, to + at,
                          seen.p + at, out + at);
        });
        layer_norm_row(out, s.norm + column, s.norm_bias + column, s.eps, s.size, out);
        const f32x16 bonus = f32x16::set(token.bonus);
        along(v, s.size, [&](f32x16 x, int64_t i, int lanes) {
          put(out + i, lanes, fma(bonus, x, take(out + i, lanes)));
        });
      }
    }
  });
}

}  // namespace
