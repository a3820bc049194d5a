// Factorisations by LAPACK, one matrix to a thread.
#pragma once

#include "kernels/shampoo.h"
#include "src/device/context.h"

namespace kiln::kernels::cpu {

void matrix_qr(Context& context, const MatrixQr& p);
size_t matrix_qr_workspace_bytes(const MatrixQr& p, const Device& device);
void matrix_orthonormalise(Context& context, const MatrixOrthonormalise& p);
size_t matrix_orthonormalise_workspace_bytes(const MatrixOrthonormalise& p, const Device& device);
void matrix_eigen(Context& context, const MatrixEigen& p);
size_t matrix_eigen_workspace_bytes(const MatrixEigen& p, const Device& device);
void seed_bases(Context& context, const SeedBases& p);
size_t seed_bases_workspace_bytes(const SeedBases& p, const Device& device);

}  // namespace kiln::kernels::cpu
