"""Pictures of the book. They draw what they are given (records, images, networks) and never train
or measure.

`style` holds colours and sizes, `data` draws images, `runs` draws records and predictions,
`networks` draws weights.
"""
