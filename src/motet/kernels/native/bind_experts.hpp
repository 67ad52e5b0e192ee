// The Python face of expert routing.
#pragma once
#include "binding.hpp"
#include "experts.hpp"

namespace {

void route_of(ThreadPool& pool, Array<const float, 2> logits, Array<int32_t, 2> ids,
              Array<float, 2> weights) {
  const int64_t rows = logits.shape(0), experts = logits.shape(1), k = ids.shape(1);
  need(k <= experts, "route: more experts to choose than there are");
  need((int64_t)ids.shape(0) == rows && (int64_t)weights.shape(0) == rows &&
           (int64_t)weights.shape(1) == k,
       "route: shapes differ");
  nb::gil_scoped_release free_python;
  route(pool, logits.data(), rows, experts, k, ids.data(), weights.data());
}

void experts_of(ThreadPool& pool, Array<const float, 2> x, Array<const int32_t, 2> ids,
                Array<const float, 2> weights, std::vector<const Matrix*> gate,
                std::vector<const Matrix*> up, std::vector<const Matrix*> down, int activation,
                Array<float, 2> out) {
  need(!gate.empty() && gate.size() == up.size() && gate.size() == down.size(),
       "experts: a matrix is missing");
  const int64_t rows = x.shape(0), k = ids.shape(1), d = x.shape(1), width = out.shape(1);
  need((int64_t)ids.shape(0) == rows && (int64_t)weights.shape(0) == rows &&
           (int64_t)weights.shape(1) == k && (int64_t)out.shape(0) == rows,
       "experts: token counts differ");
  std::vector<Expert> experts;
  for (size_t e = 0; e < gate.size(); e++) {
    need(gate[e] && up[e] && down[e], "experts: a matrix is missing");
    need(gate[e]->columns == d && up[e]->columns == d && up[e]->rows == gate[e]->rows &&
             down[e]->columns == gate[e]->rows && gate[e]->rows == gate[0]->rows &&
             down[e]->rows == width,
         "experts: matrices do not fit");
    experts.push_back({gate[e], up[e], down[e]});
  }
  for (size_t i = 0; i < ids.size(); i++)
    need(ids.data()[i] >= 0 && ids.data()[i] < (int64_t)experts.size(),
         "experts: an id beyond the last");
  need(activation >= SILU && activation <= RELU2, "no such activation");
  nb::gil_scoped_release free_python;
  run_experts(pool, x.data(), rows, ids.data(), weights.data(), k, experts, activation, out.data());
}

void bind_experts(nb::module_& m) {
  m.def("route", &route_of);
  m.def("experts", &experts_of);
}

}  // namespace
