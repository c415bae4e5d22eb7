"""What requests cost: before, as an estimate and a ceiling, and after, as the bill.

A **price** is USD per million tokens of a model, of input and of output, in a completion window; `prices.json` has
them with source and date. **Tokens** of prompts are counted, those of answers assumed. An **estimate** is what a batch
file probably costs, its **ceiling** the most that it can; the **bill** is what the answers cost.

Promises: the ceiling is never below the bill; a price that is not known is never taken for nothing; every price names
where it was read, and when.
"""
