// The recurrences of Mamba, Mamba-2 and RWKV-6. A state is kept in the slot that it is written to;
// a thread works on so much of it at a time as the first-level cache holds while a run's tokens
// pass.
#pragma once
#include "recurrent.hpp"

namespace {

// max(x, 0) + log(1 + u), u = e^−|x|; log(1 + u) = 2·atanh(u / (2 + u)) by its odd series.
inline f32x16 softplus(f32x16 x) {
  const f32x16 zero = f32x16::set(0);
  const f32x16 u = exp(zero - bit_and(x, as_float(set_int(0x7fffffff))));
  const f32x16 s = u / (u + f32x16::set(2.0f)), square = s * s, twice = s + s;
  f32x16 p = f32x16::set(1.0f / 13);
  p = fma(p, square, f32x16::set(1.0f / 11));
  p = fma(p, square, f32x16::set(1.0f / 9));
  p = fma(p, square, f32x16::set(1.0f / 7));
  p = fma(p, square, f32x16::set(1.0f / 5));
  p = fma(p, square, f32x16::set(1.0f / 3));
  return maximum(zero, x) + fma(p * square, twice, twice);
}

// Mamba: Δ = softplus(dt + dt_bias); h = e^(Δ·a)·h + (Δ·x)·b; y = Σ_n h·c + d·x, times silu(z).
struct SelectiveScan {
  Rows x, dt, b, c, z;  // z.data may be null
  const float *dt_bias, *a, *d;
  int64_t channels, n;
  float* states;  // [slots][n][channels]
  float* out;
};

// One token for at most SPAN channels from `at` on.
inline void selective_step(const SelectiveScan& s, int64_t row, int64_t at, int64_t channels,
                           const float* from, float* to) {
  constexpr int V = SPAN / LANES;
  f32x16 step[V], fresh[V], y[V];
  const int count = (int)((channels + LANES - 1) / LANES);
  auto lanes = [&](int v) { return (int)std::min<int64_t>(LANES, channels - v * LANES); };
  for (int v = 0; v < count; v++) {
    const int64_t c = at + v * LANES;
    step[v] = softplus(take(s.dt[row] + c, lanes(v)) + take(s.dt_bias + c, lanes(v)));
    fresh[v] = step[v] * take(s.x[row] + c, lanes(v));
    y[v] = f32x16::set(0);
  }
  const float *b = s.b[row], *c = s.c[row];
  const int64_t soon = 2 * s.channels;  // states are far apart, too
  for (int64_t i = 0; i < s.n; i++)
    for (int v = 0; v < count; v++) {
      const int64_t place = i * s.channels + v * LANES;
      fetch(s.a + at + place + soon);
      fetch(from + place + soon);
      const f32x16 rate = take(s.a + at + place, lanes(v)), old = take(from + place, lanes(v));
      const f32x16 h = fma(exp(step[v] * rate), old, fresh[v] * f32x16::set(b[i]));
      put(to + place, lanes(v), h);
      y[v] = fma(h, f32x16::set(c[i]), y[v]);
    }
  for (int v = 0; v < count; v++) {
    const int64_t c = at + v * LANES;
    f32x16 out = fma(take(s.d + c, lanes(v)), take(s.x[row] + c, lanes(v)), y[v]);
    if (s.z.data) out = out * silu(take(s.z[row] + c, lanes(v)));
    put(s.out + row * s.channels + c, lanes(v), out);
  }
}

// All of a run for the 16 channels (or fewer) from `at` on, whose states stay in registers.
template <int N>
void selective_run(const SelectiveScan& s, const Runs& runs, int64_t run, int64_t at, int lanes,
                   const float* from, float* to) {
  f32x16 kept[N], rates[N];
  for (int i = 0; i < N; i++) {
    kept[i] = take(from + i * s.channels, lanes);
    rates[i] = take(s.a + i * s.channels + at, lanes);
  }
  const f32x16 bias = take(s.dt_bias + at, lanes), skip = take(s.d + at, lanes);
  const int64_t stop = runs.starts[run + 1];
  for (int64_t t = runs.starts[run]; t < stop; t++) {
    const int64_t row = runs.order[t], soon = runs.order[std::min(t + AHEAD, stop - 1)];
    for (const Rows* rows : {&s.x, &s.dt, &s.z})
      if (rows->data) fetch((*rows)[soon] + at);
    fetch(s.out + soon * s.channels + at);
    const f32x16 x = take(s.x[row] + at, lanes);
    const f32x16 step = softplus(take(s.dt[row] + at, lanes) + bias), fresh = step * x;
    const float *b = s.b[row], *c = s.c[row];
    f32x16 y = f32x16::set(0);
#pragma GCC unroll 16
    for (int i = 0; i < N; i++) {
      kept[i] = fma(exp(step * rates[i]), kept[i], fresh * f32x16::set(b[i]));
      y = fma(kept[i], f32x16::set(c[i]), y);
    }
    y = fma(skip, x, y);
    if (s.z.data) y = y * silu(take(s.z[row] + at, lanes));
    put(s.out + row * s.channels + at, lanes, y);
  }
  for (int i = 0; i < N; i++) put(to + i * s.channels, lanes, kept[i]);
}

inline void selective_scan(ThreadPool& pool, const SelectiveScan& s, const Runs& runs) {
  const int64_t spans = (s.channels + SPAN - 1) / SPAN, size = s.n * s.channels;
  const int64_t cycles = 20 * s.n * SPAN / LANES;
  over_runs(pool, runs, spans, cycles, [&](int64_t run, int64_t first, int64_t last) {
    for (int64_t span = first; span < last; span++) {
      const int64_t at = span * SPAN, channels = std::min<int64_t>(SPAN, s.channels - at);
      float* to = s.states + runs.write[run] * size + at;
      const float* from = slot_of(s.states, runs.read[run], size);
      from = begin(from ? from + at : nullptr, to, s.n, s.channels, channels);
      if (s.n == 16 && runs.starts[run + 1] - runs.starts[run] > 1)
        for (int64_t c = 0; c < channels; c += LANES)
          selective_run<16>(s, runs, run, at + c, (int)std::min<int64_t>(LANES, channels - c),
                            from + c, to + c);
      else
        for (int64_t t = runs.starts[run]; t < runs.starts[run + 1]; t++, from = to)
          selective_step(s, runs.order[t], at, channels, from, to);
    }
  });
}

// Mamba-2: one decay for a whole head. h[n][p] = e^(Δ·a)·h[n][p] + b[n]·(Δ·x[p]);
// y[p] = Σ_n c[n]·h[n][p] + d·x[p].
struct HeadScan {
  Rows x, dt, b, c;
  const float *dt_bias, *a, *d;
  int64_t heads, groups, n, width;
  float* states;  // [slots][heads][n][width]
  float* out;
};

// T tokens of a head for V vectors of its channels from `at` on; step and decay are [token][heads].
// A state is loaded once for all of the tokens.
template <int T, int V>
void head_tokens(const HeadScan& s, const int32_t* order, int64_t head, int64_t at, int lanes,
                 const float* step, const float* decay, const float* from, float* to) {
  const int64_t column = head * s.width + at, group = head / (s.heads / s.groups);
  f32x16 fresh[T][V], y[T][V], fade[T];
  const float *b[T], *c[T];
  for (int t = 0; t < T; t++) {
    b[t] = s.b[order[t]] + group * s.n;
    c[t] = s.c[order[t]] + group * s.n;
    fade[t] = f32x16::set(decay[t * s.heads + head]);
    for (int v = 0; v < V; v++) {
      const f32x16 x = take(s.x[order[t]] + column + v * LANES, lanes);
      fresh[t][v] = f32x16::set(step[t * s.heads + head]) * x;
      y[t][v] = f32x16::set(0);
    }
  }
  for (int64_t i = 0; i < s.n; i++) {
    f32x16 h[V];
    for (int v = 0; v < V; v++) h[v] = take(from + i * s.width + v * LANES, lanes);
#pragma GCC unroll 4
    for (int t = 0; t < T; t++) {
      const f32x16 key = f32x16::set(b[t][i]), query = f32x16::set(c[t][i]);
      for (int v = 0; v < V; v++) {
        h[v] = fma(fade[t], h[v], fresh[t][v] * key);
        y[t][v] = fma(query, h[v], y[t][v]);
      }
    }
    for (int v = 0; v < V; v++) put(to + i * s.width + v * LANES, lanes, h[v]);
  }
  const f32x16 skip = f32x16::set(s.d[head]);
  for (int t = 0; t < T; t++)
    for (int v = 0; v < V; v++) {
      const f32x16 x = take(s.x[order[t]] + column + v * LANES, lanes);
      const int64_t at_out = order[t] * s.heads * s.width + column + v * LANES;
      put(s.out + at_out, lanes, fma(skip, x, y[t][v]));
    }
}

inline void mamba2_scan(ThreadPool& pool, const HeadScan& s, const Runs& runs) {
  const int64_t tokens = runs.tokens(), heads = s.heads, size = heads * s.n * s.width;
  Buffer<float> step(tokens * heads), decay(tokens * heads);  // in the order of the runs
  in_parts(pool, tokens, PART / 8 / heads, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++)
      along(s.dt[runs.order[t]], heads, [&](f32x16 dt, int64_t i, int lanes) {
        const f32x16 value = softplus(dt + take(s.dt_bias + i, lanes));
        put(step.p + t * heads + i, lanes, value);
        put(decay.p + t * heads + i, lanes, exp(value * take(s.a + i, lanes)));
      });
  });
  constexpr int T = 4, V = 2;
  const int64_t blocks = (s.width + V * LANES - 1) / (V * LANES);
  over_runs(pool, runs, heads * blocks, 3 * V * s.n, [&](int64_t run, int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; unit++) {
      const int64_t head = unit / blocks, stop = std::min(s.width, (unit % blocks + 1) * V * LANES);
      int64_t at = unit % blocks * V * LANES;
      auto pass = [&](auto vectors, int lanes) {
        constexpr int W = vectors();
        const int64_t place = head * s.n * s.width + at;
        float* to = s.states + runs.write[run] * size + place;
        const float* from = slot_of(s.states, runs.read[run], size);
        from = begin(from ? from + place : nullptr, to, s.n, s.width, (W - 1) * LANES + lanes);
        int64_t t = runs.starts[run];
        const int64_t end = runs.starts[run + 1];
        for (; t + T <= end; t += T, from = to)
          head_tokens<T, W>(s, runs.order + t, head, at, lanes, step.p + t * heads,
                            decay.p + t * heads, from, to);
        for (; t < end; t++, from = to)
          head_tokens<1, W>(s, runs.order + t, head, at, lanes, step.p + t * heads,
                            decay.p + t * heads, from, to);
        at += W * LANES;
      };
      if (stop - at == V * LANES) pass(std::integral_constant<int, V>{}, LANES);
      while (at < stop)
        pass(std::integral_constant<int, 1>{}, (int)std::min<int64_t>(LANES, stop - at));
    }
  });
}

// RWKV-6: y[j] = Σ_i r[i]·(s[i][j] + u[i]·k[i]·v[j]); s[i][j] = decay[i]·s[i][j] + k[i]·v[j],
// decay = e^(−e^w).
struct Wkv6 {
  Rows r, k, v, w;
  const float* u;  // [heads][size]
  int64_t heads, size;
  float* states;  // [slots][heads][size][size]
  float* out;
};

// One token of a head for V vectors of its values from `at` on.
template <int V>
void wkv6_token(const Wkv6& s, int64_t row, int64_t head, int64_t at, int lanes, const float* decay,
                const float* from, float* to) {
  const int64_t column = head * s.size;
  const float *r = s.r[row] + column, *k = s.k[row] + column, *u = s.u + column;
  f32x16 v[V], y[V];
  for (int i = 0; i < V; i++) {
    v[i] = take(s.v[row] + column + at + i * LANES, lanes);
    y[i] = f32x16::set(0);
  }
  for (int64_t i = 0; i < s.size; i++) {
    const f32x16 query = f32x16::set(r[i]), key = f32x16::set(k[i]);
    const f32x16 bonus = f32x16::set(u[i]), fade = f32x16::set(decay[i]);
    for (int j = 0; j < V; j++) {
      const int64_t place = i * s.size + at + j * LANES;
      const f32x16 pair = key * v[j], old = take(from + place, lanes);
      y[j] = fma(query, fma(bonus, pair, old), y[j]);
      put(to + place, lanes, fma(fade, old, pair));
    }
  }
  for (int j = 0; j < V; j++)
    put(s.out + row * s.heads * s.size + column + at + j * LANES, lanes, y[j]);
}

inline void wkv6(ThreadPool& pool, const Wkv6& s, const Runs& runs) {
  constexpr int V = 4;
  const int64_t square = s.size * s.size, whole = s.heads * square;
  over_runs(pool, runs, s.heads, square / 4, [&](int64_t run, int64_t first, int64_t last) {
    Buffer<float> decay(s.size);
    for (int64_t head = first; head < last; head++) {
      float* to = s.states + runs.write[run] * whole + head * square;
      const float* from = slot_of(s.states, runs.read[run], whole);
      from = begin(from ? from + head * square : nullptr, to, 1, 0, square);
      for (int64_t t = runs.starts[run]; t < runs.starts[run + 1]; t++, from = to) {
        const int64_t row = runs.order[t];
        along(s.w[row] + head * s.size, s.size, [&](f32x16 w, int64_t i, int lanes) {
          put(decay.p + i, lanes, exp(f32x16::set(0) - exp(w)));
        });
        int64_t at = 0;
        for (; at + V * LANES <= s.size; at += V * LANES)
          wkv6_token<V>(s, row, head, at, LANES, decay.p, from, to);
        for (; at < s.size; at += LANES)
          wkv6_token<1>(s, row, head, at, (int)std::min<int64_t>(LANES, s.size - at), decay.p, from,
                        to);
      }
    }
  });
}

}  // namespace
