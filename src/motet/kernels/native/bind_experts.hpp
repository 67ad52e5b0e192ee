// The Python face of expert routing.
#pragma once
#include "binding.hpp"
#include "experts.hpp"

namespace {

void route_of(ThreadPool& pool, Array<const float, 2> logits,
              std::optional<Array<const float, 1>> bias, int scores, int64_t groups,
              int64_t groups_used, int group_best, int weighting, float epsilon, float scale,
              Array<int32_t, 2> ids, Array<float, 2> weights) {
  const int64_t rows = logits.shape(0), experts = logits.shape(1), k = ids.shape(1);
  need(scores >= SOFTMAX && scores <= LOGITS && weighting >= AS_SCORED &&
           weighting <= SOFTMAX_OF_CHOSEN && (group_best == 1 || group_best == 2) && groups > 0 &&
           groups_used > 0 && groups_used <= groups && experts % groups == 0 &&
           group_best <= experts / groups,
       "route: no such routing");
  need(k > 0 && k <= experts / groups * groups_used,
       "route: more experts to choose than there are");
  need(!bias || (int64_t)bias->shape(0) == experts, "route: a bias of other experts");
  need((int64_t)ids.shape(0) == rows && (int64_t)weights.shape(0) == rows &&
           (int64_t)weights.shape(1) == k,
       "route: shapes differ");
  nb::gil_scoped_release free_python;
  const Routing routing{scores, groups, groups_used, group_best, weighting, epsilon, scale};
  route(pool, routing, logits.data(), bias ? bias->data() : nullptr, rows, experts, k, ids.data(),
        weights.data());
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
  need(activation >= SILU && activation <= RELU, "no such activation");
  nb::gil_scoped_release free_python;
  run_experts(pool, x.data(), rows, ids.data(), weights.data(), k, experts, activation, out.data());
}

void bind_experts(nb::module_& m) {
  m.def("route", &route_of, "pool"_a, "logits"_a, "bias"_a.none(), "scores"_a, "groups"_a,
        "groups_used"_a, "group_best"_a, "weighting"_a, "epsilon"_a, "scale"_a, "ids"_a,
        "weights"_a);
  m.def("experts", &experts_of);
}

}  // namespace
