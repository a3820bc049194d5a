// Where a single text is cut into one part for training and one for validation.
#pragma once

#include <cstdint>

#include "data/document_reader.h"

namespace kiln::data {

struct TextCut {
  int64_t at = 0, bytes = 0;  // the text's first byte for validation, and its length; 0: the text is not cut
  const char* place = "";     // what the cut is at: "a blank line"
};

// Documents are dealt to training and validation one by one, which needs many of them. A single .txt gives so few that
// validation would get nothing, everything or a half: when the share that validation is to have is less than one of
// its documents, the text is cut in two instead, at the blank line nearest to the share (else at a line's end, else
// between words, else between characters), and the end of it is for validation. Not cut: several inputs, JSON lines,
// streams, texts that are long enough, blank ones. Throws Error(ExitCode::data) when the text has no two parts.
TextCut cut_single_text(const ReadOptions& read, double validation_fraction);

}  // namespace kiln::data
