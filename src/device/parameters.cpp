#include "src/device/parameters.h"

#include <algorithm>
#include <cctype>

#include "src/core/error.h"

namespace kiln {

std::string layerless(const std::string& name) {
  std::string result;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](unsigned char c) { return std::isdigit(c); });
    result += (begin ? "." : "") + (number ? "*" : part);
    begin = end + 1;
  }
  return result;
}

std::string_view name_of(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::matrix: return "matrix";
    case ParameterKind::embedding: return "embedding";
    case ParameterKind::head: return "head";
    case ParameterKind::norm: return "norm";
    case ParameterKind::bias: return "bias";
  }
  return "?";
}

int ParameterTable::add(std::string name, Shape shape, ParameterKind kind, std::vector<RowSplit> splits) {
  for (const Parameter& p : parameters_) require(p.name != name, "two parameters have the same name");
  int64_t next = 0;
  for (const RowSplit& s : splits) {
    require(s.first == next && s.rows > 0, "row splits must cover a matrix in order");
    next += s.rows;
  }
  require(splits.empty() || next == shape[0], "row splits must cover a matrix");
  parameters_.push_back(Parameter{std::move(name), std::move(shape), kind, std::move(splits)});
  return static_cast<int>(parameters_.size() - 1);
}

void ParameterTable::plan(Plan& plan, DType dtype, bool gradients) {
  buffers_.assign(parameters_.size(), {});
  for (size_t i = 0; i < parameters_.size(); i++) {
    Parameter& p = parameters_[i];
    const size_t n = static_cast<size_t>(p.elements());
    p.dtype = dtype;
    buffers_[i].weight = plan.add(p.name, Category::parameters, n * size_of(dtype));
    if (dtype != DType::f32) buffers_[i].master = plan.add(p.name, Category::master_weights, n * 4);
    if (gradients) buffers_[i].gradient = plan.add(p.name, Category::gradients, n * 4);
  }
}

void ParameterTable::bind(const Arena& arena) {
  require(buffers_.size() == parameters_.size(), "a parameter table must be planned before it is bound");
  for (size_t i = 0; i < parameters_.size(); i++) {
    Parameter& p = parameters_[i];
    p.weight = arena.at<void>(buffers_[i].weight);
    p.master = p.dtype == DType::f32 ? static_cast<float*>(p.weight) : arena.at<float>(buffers_[i].master);
    p.gradient = buffers_[i].gradient < 0 ? nullptr : arena.at<float>(buffers_[i].gradient);
  }
}

void ParameterTable::bump_versions() {
  for (Parameter& p : parameters_) p.version++;
}

int64_t ParameterTable::elements() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.elements();
  return n;
}

}  // namespace kiln
