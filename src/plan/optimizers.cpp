#include "src/plan/optimizers.h"

#include "kernels/matrix.h"
#include "optim/kl_shampoo.h"
#include "optim/muon.h"
#include "optim/pro_kl_shampoo.h"
#include "src/core/error.h"

namespace kiln::plan {
namespace {

DType factors_of(const config::Optimizer& config, const Device& device) {
  const bool has_bf16 = kernels::has_bf16_products(device);
  if (config.ns_precision == "bf16" && !has_bf16) {
    throw Error(ExitCode::device,
                fmt::format("optimizer.ns_precision = \"bf16\": {} ({}) multiplies bf16 no faster than f32",
                            device.name, name_of(device.isa)),
                "use \"auto\" or \"f32\"");
  }
  return has_bf16 && config.ns_precision != "f32" ? DType::bf16 : DType::f32;
}

optim::Root root_of(const config::Optimizer& config) {
  return config.root == "newton_schulz" ? optim::Root::newton_schulz : optim::Root::eigenbasis;
}

std::unique_ptr<optim::Optimizer> muon(const config::Optimizer& c, const Device& device) {
  const bool spectral = c.scale == "spectral";
  return std::make_unique<optim::Muon>(
      optim::MuonOptions{.lr = c.lr,
                         .mu = c.b1,
                         .wd = c.wd,
                         .nesterov = c.nesterov == "on",
                         .scale = spectral ? optim::MuonScale::spectral : optim::MuonScale::match_rms,
                         .set = &optim::newton_schulz_set(c.ns),
                         .factors = factors_of(c, device)});
}

std::unique_ptr<optim::Optimizer> kl_shampoo(const config::Optimizer& c, int64_t tail_rank) {
  return std::make_unique<optim::KlShampoo>(
      optim::KlShampooOptions{.lr = c.lr,
                              .b1 = c.b1,
                              .b2 = c.b2,
                              .eps = c.eps,
                              .wd = c.wd,
                              .refresh = c.refresh,
                              .root = root_of(c),
                              .init = c.init == "constant" ? optim::Init::constant : optim::Init::gradient,
                              .tail_rank = tail_rank});
}

std::unique_ptr<optim::Optimizer> pro_kl_shampoo(const config::Optimizer& c, const Device& device) {
  using optim::Complement, optim::ComplementScale;
  return std::make_unique<optim::ProKlShampoo>(optim::ProKlShampooOptions{
      .lr = c.lr,
      .b1 = c.b1,
      .b2 = c.b2,
      .wd = c.wd,
      .refresh = c.refresh,
      .root = root_of(c),
      .rank = c.rank,
      .orientation = c.orientation == "input" ? optim::Orientation::input : optim::Orientation::larger,
      .complement = c.complement == "polar"       ? Complement::polar
                    : c.complement == "isotropic" ? Complement::isotropic
                                                  : Complement::polar_left,
      .scale = c.complement_scale == "graft"   ? ComplementScale::graft
               : c.complement_scale == "fixed" ? ComplementScale::fixed
                                               : ComplementScale::matched,
      .complement_factor = c.complement_factor,
      .tracker = c.tracker == "accumulate" ? optim::Tracker::accumulate : optim::Tracker::orthogonal,
      .tracker_every = c.tracker_every,
      .set = &optim::newton_schulz_set(c.ns),
      .factors = factors_of(c, device)});
}

}  // namespace

std::unique_ptr<optim::Optimizer> matrix_optimizer(const config::Optimizer& config, const Device& device,
                                                   int64_t tail_rank) {
  if (config.name == "muon") return muon(config, device);
  if (config.name == "kl-shampoo") return kl_shampoo(config, tail_rank);
  if (config.name == "pro-kl-shampoo") return pro_kl_shampoo(config, device);
  require(config.name == "adamw", "a config names an optimizer that does not exist");
  return nullptr;
}

optim::AdamWOptions adamw_options(const config::Optimizer& c) {
  if (c.name == "adamw") return {.lr = c.lr, .b1 = c.b1, .b2 = c.b2, .eps = c.eps, .wd = c.wd};
  return {.lr = c.adamw_lr, .b1 = c.adamw_b1, .b2 = c.adamw_b2, .eps = c.adamw_eps, .wd = c.adamw_wd};
}

optim::Routing route(const ParameterTable& parameters, const config::Optimizer& config, const Device& device,
                     int64_t tail_rank) {
  return optim::route(parameters, matrix_optimizer(config, device, tail_rank), adamw_options(config));
}

}  // namespace kiln::plan
