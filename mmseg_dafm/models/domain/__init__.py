"""Domain embeddings: prompts, text embeddings, image towers, alpha and W."""

from mmseg_dafm.models.domain.domain_embedding import DomainEmbedding

__all__ = ['DomainEmbedding']
