// A mixture of experts: which ones a token goes to, and what they make of it.
#pragma once
#include "elementwise.hpp"
#include "linear.hpp"

namespace {

// See routing.py.
enum Scores : int { SOFTMAX, SIGMOIDS, LOGITS };
enum Weights : int { AS_SCORED, NORMALISED, SOFTMAX_OF_CHOSEN };
struct Routing {
  int scores;
  int64_t groups, groups_used;
  int group_best, weights;
  float epsilon, scale;
};

// x[0…n) to e^(x − greatest), with zeros up to whole vectors; returns their sum.
inline float exponentials(float* x, int64_t n) {
  const int64_t padded = (n + LANES - 1) / LANES * LANES;
  std::fill(x + n, x + padded, -INFINITY);
  f32x16 most = f32x16::set(-INFINITY);
  for (int64_t i = 0; i < padded; i += LANES) most = maximum(most, f32x16::load(x + i));
  const f32x16 top = f32x16::set(largest(most));
  f32x16 total = f32x16::set(0);
  for (int64_t i = 0; i < padded; i += LANES) {
    const f32x16 e = exp(f32x16::load(x + i) - top);
    e.store(x + i);
    total = total + e;
  }
  return sum(total);
}

// The ids of the `count` largest numbers, the largest first; of equals the lowest id, a NaN below
// all. `id` goes from 0 to n with holes where `left` says so.
template <class Left>
inline void take_best(const float* x, int64_t n, int64_t count, const Left& left, int32_t* best) {
  auto better = [&](int64_t a, int64_t b) {
    return x[a] > x[b] || (std::isnan(x[b]) && !std::isnan(x[a]));
  };
  int64_t taken = 0;
  for (int64_t i = 0; i < n; i++) {
    if (left(i) || (taken == count && !better(i, best[count - 1]))) continue;
    int64_t at = taken < count ? taken++ : count - 1;
    for (; at > 0 && better(i, best[at - 1]); at--) best[at] = best[at - 1];
    best[at] = (int32_t)i;
  }
}

// What a group of experts is worth: the sum of its so many best, 1 or 2.
inline float worth(const float* x, int64_t n, int best) {
  int32_t ids[2];
  take_best(x, n, best, [](int64_t) { return false; }, ids);
  return best == 1 ? x[ids[0]] : x[ids[0]] + x[ids[1]];
}

inline void route(ThreadPool& pool, const Routing& routing, const float* logits, const float* bias,
                  int64_t rows, int64_t experts, int64_t k, int32_t* ids, float* weights) {
  in_parts(pool, rows, PART / 8 / std::max<int64_t>(1, experts), [&](int64_t first, int64_t last) {
    const int64_t padded = (experts + LANES - 1) / LANES * LANES, size = experts / routing.groups;
    const int64_t chosen_padded = (k + LANES - 1) / LANES * LANES;
    Buffer<float> scores(padded), order(experts), worths(routing.groups), chosen(chosen_padded);
    std::vector<int32_t> groups(routing.groups_used);
    std::vector<bool> used(routing.groups);
    for (int64_t row = first; row < last; row++) {
      const float* in = logits + row * experts;
      std::copy(in, in + experts, scores.p);
      float all = 1;
      if (routing.scores == SOFTMAX) all = exponentials(scores.p, experts);
      if (routing.scores == SIGMOIDS)
        along(in, experts,
              [&](f32x16 v, int64_t i, int lanes) { put(scores.p + i, lanes, sigmoid(v)); });
      const float* by = in;  // what the choice goes by
      if (bias || routing.group_best > 1) {
        for (int64_t i = 0; i < experts; i++)
          order.p[i] = scores.p[i] / all + (bias ? bias[i] : 0.0f);
        by = order.p;
      }
      if (routing.groups > 1) {
        for (int64_t g = 0; g < routing.groups; g++)
          worths.p[g] = worth(by + g * size, size, routing.group_best);
        take_best(
            worths.p, routing.groups, routing.groups_used, [](int64_t) { return false; },
            groups.data());
        used.assign(routing.groups, false);
        for (int32_t g : groups) used[g] = true;
        take_best(by, experts, k, [&](int64_t i) { return !used[i / size]; }, ids + row * k);
      } else {
        take_best(by, experts, k, [](int64_t) { return false; }, ids + row * k);
      }
      float* out = weights + row * k;
      for (int64_t rank = 0; rank < k; rank++) chosen.p[rank] = scores.p[ids[row * k + rank]] / all;
      float total = 1;
      if (routing.weights == SOFTMAX_OF_CHOSEN) total = exponentials(chosen.p, k);
      if (routing.weights == NORMALISED) {
        total = chosen.p[0];
        for (int64_t rank = 1; rank < k; rank++) total += chosen.p[rank];
        total += routing.epsilon;
      }
      for (int64_t rank = 0; rank < k; rank++) out[rank] = chosen.p[rank] / total * routing.scale;
    }
  });
}

struct Expert {
  const Matrix *gate, *up, *down;  // all experts have a gate, or none
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
};

// Σ over ranks, in order, of weight · down(activation(gate(x)) · up(x)), without a gate of weight ·
// down(activation(up(x))). The tokens of an expert are gathered, so that its matrices are read
// once; a row of a product does not depend on its neighbours, so a token's sum is what it would be
// alone.
inline void run_experts(ThreadPool& pool, const float* x, int64_t rows, const int32_t* ids,
                        const float* weights, int64_t k, const std::vector<Expert>& experts,
                        int activation, float* out) {
  const int64_t d = experts[0].up->columns, inner = experts[0].up->rows;
  const bool gated = experts[0].gate;
  const int64_t width = experts[0].down->rows, count = rows * k;
  std::vector<int64_t> starts(experts.size() + 1);  // of each expert's rows among the gathered
  for (int64_t i = 0; i < count; i++) starts[ids[i] + 1]++;
  for (size_t e = 0; e < experts.size(); e++) starts[e + 1] += starts[e];
  std::vector<int64_t> place(count), next(starts);
  for (int64_t i = 0; i < count; i++) place[i] = next[ids[i]]++;

  Buffer<float> gathered(count * d), gate(gated ? count * inner : 0), up(count * inner);
  Buffer<float> each(count * width);
  in_parts(pool, count, PART / std::max<int64_t>(1, d), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++)
      memcpy(gathered.p + place[i] * d, x + i / k * d, d * sizeof(float));
  });
  std::vector<std::unique_ptr<Input>> inputs;
  std::vector<Product> products;
  auto enter = [&](const float* from, int64_t e, int64_t columns) -> Input& {
    const int64_t n = starts[e + 1] - starts[e];
    inputs.push_back(std::make_unique<Input>(pool, from + starts[e] * columns, n, columns));
    return *inputs.back();
  };
  for (size_t e = 0; e < experts.size(); e++) {
    if (starts[e] == starts[e + 1]) continue;
    Input& input = enter(gathered.p, e, d);
    const Expert& expert = experts[e];
    if (gated)
      products.emplace_back(input, *expert.gate, gate.p + starts[e] * inner, expert.gate_bias);
    products.emplace_back(input, *expert.up, up.p + starts[e] * inner, expert.up_bias);
  }
  multiply_all(pool, products);
  float* made = gated ? gate.p : up.p;
  activate(pool, activation, made, gated ? up.p : nullptr, count * inner, made);
  products.clear();
  for (size_t e = 0; e < experts.size(); e++)
    if (starts[e] != starts[e + 1])
      products.emplace_back(enter(made, e, inner), *experts[e].down, each.p + starts[e] * width,
                            experts[e].down_bias);
  multiply_all(pool, products);
  in_parts(pool, rows, PART / std::max<int64_t>(1, width * k), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
      for (int64_t at = 0; at < width; at += LANES) {
        const int lanes = (int)std::min<int64_t>(LANES, width - at);
        f32x16 total = f32x16::set(0);
        for (int64_t i = row * k; i < (row + 1) * k; i++)
          total = fma(f32x16::set(weights[i]), take(each.p + place[i] * width + at, lanes), total);
        put(out + row * width + at, lanes, total);
      }
  });
}

}  // namespace
