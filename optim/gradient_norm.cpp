#include "optim/gradient_norm.h"

#include <cmath>

#include "kernels/table.h"

namespace kiln::optim {

void GradientNorm::plan(Plan& plan, const ParameterTable& parameters) {
  buffer_ = plan.add("gradient norm", Category::workspace, parameters.all().size() * sizeof(double));
}

double GradientNorm::compute(Context& context, const ParameterTable& parameters) const {
  const std::vector<Parameter>& all = parameters.all();
  for (size_t i = 0; i < all.size(); i++) {
    kernels::sum_of_squares(context, {.out = context.dry_run ? nullptr : partials_ + i,
                                      .x = all[i].gradient,
                                      .n = all[i].elements(),
                                      .dtype = DType::f32});
  }
  if (context.dry_run) return 0;
  double sum = 0;
  for (size_t i = 0; i < all.size(); i++) sum += partials_[i];
  return std::sqrt(sum);
}

double clip_scale(double norm, double clip) {
  return clip > 0 && norm > clip ? clip / norm : 1.0;
}

}  // namespace kiln::optim
