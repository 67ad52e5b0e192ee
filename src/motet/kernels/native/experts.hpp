// A mixture of experts: which ones a token goes to, and what they make of it.
#pragma once
#include "elementwise.hpp"
#include "linear.hpp"

namespace {

// Softmax over all experts, then the k largest logits (of equals the lowest id; a NaN is below
// all).
inline void route(ThreadPool& pool, const float* logits, int64_t rows, int64_t experts, int64_t k,
                  int32_t* ids, float* weights) {
  in_parts(pool, rows, PART / 8 / std::max<int64_t>(1, experts), [&](int64_t first, int64_t last) {
    const int64_t padded = (experts + LANES - 1) / LANES * LANES;
    Buffer<float> shares(padded);
    for (int64_t row = first; row < last; row++) {
      const float* in = logits + row * experts;
      f32x16 most = f32x16::set(-INFINITY);
      std::fill(shares.p + experts, shares.p + padded, -INFINITY);
      std::copy(in, in + experts, shares.p);
      for (int64_t i = 0; i < padded; i += LANES) most = maximum(most, f32x16::load(shares.p + i));
      const f32x16 top = f32x16::set(largest(most));
      f32x16 total = f32x16::set(0);
      for (int64_t i = 0; i < padded; i += LANES) {
        const f32x16 e = exp(f32x16::load(shares.p + i) - top);
        e.store(shares.p + i);
        total = total + e;
      }
      const float all = sum(total);
      for (int64_t rank = 0; rank < k; rank++) {
        int32_t* chosen = ids + row * k;
        int64_t best = -1;
        for (int64_t i = 0; i < experts; i++) {
          if (std::find(chosen, chosen + rank, (int32_t)i) != chosen + rank) continue;
          if (best < 0 || in[i] > in[best] || (std::isnan(in[best]) && !std::isnan(in[i])))
            best = i;
        }
        chosen[rank] = (int32_t)best;
        weights[row * k + rank] = shares.p[best] / all;
      }
    }
  });
}

struct Expert {
  const Matrix *gate, *up, *down;
};

// Σ over ranks, in order, of weight · down(activation(gate(x)) · up(x)). The tokens of an expert
// are gathered, so that its matrices are read once; a row of a product does not depend on its
// neighbours, so a token's sum is what it would be alone.
inline void run_experts(ThreadPool& pool, const float* x, int64_t rows, const int32_t* ids,
                        const float* weights, int64_t k, const std::vector<Expert>& experts,
                        int activation, float* out) {
  const int64_t d = experts[0].gate->columns, inner = experts[0].gate->rows;
  const int64_t width = experts[0].down->rows, count = rows * k;
  std::vector<int64_t> starts(experts.size() + 1);  // of each expert's rows among the gathered
  for (int64_t i = 0; i < count; i++) starts[ids[i] + 1]++;
  for (size_t e = 0; e < experts.size(); e++) starts[e + 1] += starts[e];
  std::vector<int64_t> place(count), next(starts);
  for (int64_t i = 0; i < count; i++) place[i] = next[ids[i]]++;

  Buffer<float> gathered(count * d), gate(count * inner), up(count * inner), each(count * width);
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
    products.emplace_back(input, *experts[e].gate, gate.p + starts[e] * inner);
    products.emplace_back(input, *experts[e].up, up.p + starts[e] * inner);
  }
  multiply_all(pool, products);
  activate(pool, activation, gate.p, up.p, count * inner, gate.p);
  products.clear();
  for (size_t e = 0; e < experts.size(); e++)
    if (starts[e] != starts[e + 1])
      products.emplace_back(enter(gate.p, e, inner), *experts[e].down, each.p + starts[e] * width);
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
