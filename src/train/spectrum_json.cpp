#include <cmath>
#include <nlohmann/json.hpp>

#include "src/train/spectrum.h"

namespace kiln::train {
namespace {

using nlohmann::ordered_json;

ordered_json factor_json(const FactorSpectrum& f) {
  ordered_json out = {{"n", f.n}, {"rank", f.rank}, {"shape", shape_of(f)}};
  if (!f.decomposed) return out;
  out["gap"] = f.gap;
  out["whole_gap"] = f.whole_gap;
  out["price"] = f.price;
  out["spike"] = f.spike;
  out["flat_from"] = f.flat_from;
  out["eigenvalues"] = f.values;
  return out;
}

}  // namespace

std::string json_of(const Spectra& spectra) {
  ordered_json checkpoints = ordered_json::array();
  for (const CheckpointSpectrum& c : spectra.checkpoints) {
    ordered_json matrices = ordered_json::array();
    for (const MatrixSpectrum& m : c.matrices) {
      matrices.push_back({{"name", m.name},
                          {"rows", m.rows},
                          {"cols", m.cols},
                          {"s_a", factor_json(m.left)},
                          {"s_b", factor_json(m.right)}});
    }
    checkpoints.push_back({{"path", c.path.string()}, {"step", c.step}, {"matrices", std::move(matrices)}});
  }
  const ordered_json out = {
      {"rank", spectra.rank}, {"flat_gap", kFlatGap}, {"checkpoints", std::move(checkpoints)}};
  return out.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kiln::train
