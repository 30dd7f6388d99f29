/* data-plane/collection/bm25.h: sparse vectors from text, so that hybrid search needs no other
 * service. */
#ifndef DP_BM25_H
#define DP_BM25_H
#include "collection/query.h"

/* Reads {"text": .., "model": "qdrant/bm25", "options": {..}} into a sparse vector: one entry a
 * word, under the hash that Qdrant's and FastEmbed's BM25 use, so that vectors made by a client and
 * by us meet. Release with dp_vector_fini().
 *
 * A document's word has the weight tf (k + 1) / (tf + k (1 - b + b words / avg_len)); a query's
 * has 1. The inverse document frequency is the collection's business (`modifier: idf`), which is
 * why words are counted nowhere else and no tenant learns of another's.
 *
 * options: k 1.2, b 0.75, avg_len 256, language "english" (its stemmer and stopwords; "none"), and
 * what a text index takes: tokenizer, lowercase, ascii_folding, stemmer, stopwords, min_token_len,
 * max_token_len.
 *
 * query  the text is searched for, not stored
 *
 * ORT_EBADREQ    another model
 * ORT_EFORMAT    text is no string, an option of a wrong type. ORT_EVALIDATE: out of its range, or
 * a text with more than ORT_SPARSE_NNZ_MAX different words. ORT_ENOMEM
 *
 * Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009). */
ORT_NODISCARD ort_err dp_bm25_read(dp_vector *out, ort_json v, bool query, ort_diag *diag);
#endif /* DP_BM25_H */
