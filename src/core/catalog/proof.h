/*
 * Proofs: what a file's SHA-256 was when it was hashed, remembered with what tells whether the file is still the
 * same. One small file each, named after device and inode.
 */
#ifndef CATALOG_PROOF_H
#define CATALOG_PROOF_H

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#define SHA256_TEXT_MAX 65 /* 64 lower-case hex digits */

/* Reads the proof of a file in this state. false when there is none, or it is damaged, outdated or not ours. */
bool proof_read(const char *proof_dir, const struct stat *st, char sha256[SHA256_TEXT_MAX]);
/*
 * Remembers a proof, unless the file was changed so shortly before `hashing_began` that a change during the hashing
 * could not be told. Best effort: a proof that can not be written costs time later, nothing else.
 */
void proof_write(const char *proof_dir, const struct stat *st, const struct timespec *hashing_began,
                 const char sha256[SHA256_TEXT_MAX]);

/* Whether a file, in this state at that moment, was left alone so long that its next change shows in its ctime. */
bool proof_is_settled(const struct stat *st, const struct timespec *at);
/* Whether what lies there is to be believed: it belongs to us and nobody else can write to it. */
bool proof_folder_is_ours(const char *proof_dir);
bool proof_file_is_ours(int fd);

#endif
