-- Which of several lenders was asked last; none where po.toml names one only.
ALTER TABLE borrowing ADD COLUMN lender TEXT;
