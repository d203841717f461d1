"""Operations on tensors that programs and inference need, and torch has not."""
