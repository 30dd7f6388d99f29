/* deploy/sample/embed.h: text to vectors, without a model: hashed word features. */
#ifndef EMBED_H
#define EMBED_H
#include <stddef.h>

#include "base/err.h"

#define EMBED_DIM 768

/* What a corpus knows of its words: in how many of its texts each feature stands. */
typedef struct embed_corpus embed_corpus;

ORT_NODISCARD ort_err embed_corpus_new(embed_corpus **out);
void embed_corpus_free(embed_corpus *corpus);

/* Counts one text in. ORT_ENOMEM: the corpus is as it was, or counts a part of the text. */
ORT_NODISCARD ort_err embed_corpus_add(embed_corpus *corpus, const char *text, size_t len);

/* The vector of a text, of unit length (zero for a text without words): every word
 * (without its ending) and every pair of neighbouring words is a feature; its weight, (1 + ln tf) *
 * idf, is added to one of EMBED_DIM components, which one and with which sign a hash decides. Texts
 * that share words lie near each other by cosine.
 *
 * Feature hashing: Weinberger et al. 2009 (arXiv:0902.2206). */
ORT_NODISCARD ort_err embed_text(const embed_corpus *corpus, const char *text, size_t len,
                                 float out[EMBED_DIM]);
#endif /* EMBED_H */
